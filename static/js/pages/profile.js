/** The profile page: copy a new API key. */

import { toast } from "../toast.js";

for (const button of document.querySelectorAll("[data-copy]")) {
  const input = document.getElementById(button.dataset.copy);
  input.addEventListener("focus", () => input.select());
  button.addEventListener("click", async () => {
    input.select();
    try {
      await navigator.clipboard.writeText(input.value);
      toast("Copied.");
    } catch {
      toast("Press Ctrl+C to copy it.");
    }
  });
}
