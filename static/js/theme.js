// Runs before the first paint: the chosen theme, else the system's. Colours given as data become custom properties.
const root = document.documentElement;
const system = matchMedia("(prefers-color-scheme: dark)");
const apply = () => {
  const chosen = localStorage.getItem("theme"); // the admin's pages keep theirs here too, as "auto" where none was chosen
  root.dataset.theme = ["light", "dark"].includes(chosen) ? chosen : system.matches ? "dark" : "light";
};
apply();
system.addEventListener("change", apply);
document.addEventListener("click", (event) => {
  if (!event.target.closest("[data-toggle-theme]")) return;
  localStorage.setItem("theme", root.dataset.theme === "dark" ? "light" : "dark");
  apply();
});
const paint = (scope) => {
  for (const element of scope.querySelectorAll("[data-color]")) element.style.setProperty("--swatch", element.dataset.color);
};
document.addEventListener("DOMContentLoaded", () => paint(document));
document.addEventListener("htmx:load", (event) => paint(event.target));
