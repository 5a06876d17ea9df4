/** Fields with a "Browse…" button: the dialog that picks a folder on the server. */

import { browser } from "./dataset-browser.js";

const dialog = document.getElementById("folder-dialog");
const use = dialog?.querySelector("[data-use]");
let field = null;
let chosen = "";

for (const button of document.querySelectorAll("[data-pick-folder]")) {
  button.addEventListener("click", () => {
    field = document.getElementById(button.dataset.pickFolder);
    browser(dialog.querySelector("[data-browser]"), {
      path: field.value,
      onFolder(path) {
        chosen = path;
        use.disabled = !path;
        dialog.querySelector("[data-chosen]").textContent = path;
      },
    });
    dialog.showModal();
  });
}
use?.addEventListener("click", () => {
  field.value = chosen;
  field.dispatchEvent(new Event("change", { bubbles: true }));
  dialog.close();
  field.focus();
});
dialog?.querySelector("[data-close]").addEventListener("click", () => dialog.close());
dialog?.addEventListener("click", (event) => event.target === dialog && dialog.close());
