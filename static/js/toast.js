/** Show a short message that goes away by itself; `kind` is "info" or "error". */
export function toast(message, kind = "info") {
  const element = document.createElement("div");
  element.className = "toast";
  element.dataset.kind = kind;
  element.setAttribute("role", kind === "error" ? "alert" : "status");
  element.textContent = message;
  document.getElementById("toasts").append(element);
  setTimeout(() => element.remove(), kind === "error" ? 9000 : 4000);
}
