/**
 * Keyboard shortcuts of a page. `bindings` maps keys ("ArrowRight", "b", "Shift+ArrowRight", "?") to {run, label}; with
 * `when(event)`, the key is left to the browser where that is false.
 * Silent while typing in a field. "?" opens the list of all of them.
 */
export function shortcuts(bindings) {
  const dialog = listDialog(bindings);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input:not([type=checkbox]):not([type=radio]):not([type=range]), select, textarea, [contenteditable]")) return;
    const plain = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const name = event.shiftKey && event.key.length > 1 ? `Shift+${plain}` : plain;
    if (name === "?") {
      event.preventDefault();
      dialog.open ? dialog.close() : dialog.showModal();
      return;
    }
    if (dialog.open) return;
    const binding = bindings[name];
    if (!binding?.run || binding.when?.(event) === false) return;
    if (name === " " && event.target.closest("button, a, summary, input")) return;
    event.preventDefault();
    binding.run(event);
  });
  return { show: () => dialog.showModal() };
}

function listDialog(bindings) {
  const dialog = document.createElement("dialog");
  dialog.className = "dialog";
  dialog.setAttribute("aria-label", "Keyboard shortcuts");
  const header = document.createElement("div");
  header.className = "card-header";
  header.innerHTML = "<h2>Keyboard shortcuts</h2>";
  const list = document.createElement("div");
  list.className = "card-body shortcuts";
  for (const [key, { label }] of Object.entries({ ...bindings, "?": { label: "Show this list" } })) {
    if (!label) continue;
    const keys = document.createElement("span");
    for (const part of key.split("+")) {
      const cap = document.createElement("kbd");
      cap.textContent = { ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", " ": "Space" }[part] ?? part;
      keys.append(cap, " ");
    }
    const text = document.createElement("span");
    text.textContent = label;
    list.append(keys, text);
  }
  dialog.append(header, list);
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  document.body.append(dialog);
  return dialog;
}
