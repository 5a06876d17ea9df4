/** The form for a new job: what the choices imply, told while choosing. */
const form = document.querySelector("form.columns");
const STAGES = ["extraction", "segmentation", "reconstruction", "tracking"];
const boxes = (name) => [...form.querySelectorAll(`input[name=${name}]`)];

form.elements.dataset.addEventListener("change", ({ target }) => {
  const address = new URL(form.action);
  if (target.value) address.searchParams.set("dataset", target.value);
  location.assign(address);
});

const all = form.querySelector("[data-all-files]");
all?.addEventListener("change", () => {
  for (const box of boxes("file_ids")) if (!box.disabled) box.checked = all.checked;
});

function show() {
  const chosen = new Set(boxes("stages_to_run").filter((box) => box.checked).map((box) => box.value));
  const last = Math.max(-1, ...[...chosen].map((name) => STAGES.indexOf(name)));
  const running = STAGES.slice(0, last + 1);
  for (const note of form.querySelectorAll("[data-implied]")) {
    const implied = running.includes(note.dataset.implied) && !chosen.has(note.dataset.implied);
    note.textContent = implied ? `Runs too: ${STAGES[last]} depends on it.` : "";
  }
  form.querySelector("[data-plan]").textContent = running.join(" → ") || "nothing: choose a stage";
  form.querySelector("[data-segmentation]").hidden = !running.includes("segmentation");
  form.querySelector("[data-diversity]").hidden = !form.elements.enable_diversity_filter.checked;

  const sized = form.querySelector("input[name=segmenter]:checked")?.dataset.sizes?.split(" ").filter(Boolean) ?? [];
  form.elements.sam3_variant.closest(".field").hidden = !form.elements.segmenter.value?.startsWith("sam");
  for (const option of form.elements.sam3_variant.options) {
    // SAM 3 has one size, whichever is asked for.
    option.disabled = form.elements.segmenter.value === "sam2" && !sized.includes(option.value);
  }
  const size = form.elements.sam3_variant.selectedOptions[0];
  if (size?.disabled && sized.length) form.elements.sam3_variant.value = sized[0];

  const files = boxes("file_ids");
  const usable = files.filter((box) => !box.disabled);
  const picked = usable.filter((box) => box.checked);
  const paths = form.elements.input_paths.value.split("\n").filter((line) => line.trim()).length;
  const fromDataset = picked.length || (form.elements.dataset.value && !paths ? usable.length : 0);
  const count = fromDataset + paths;
  form.querySelector("[data-recordings]").textContent = count ? `${count}` : "none yet";
  const note = form.querySelector("[data-file-count]");
  if (note) note.textContent = picked.length ? `${picked.length} of ${usable.length} chosen` : `all ${usable.length}`;
  if (all) all.checked = picked.length > 0 && picked.length === usable.length;
}

form.addEventListener("input", show);
form.addEventListener("change", show);
show();
document.getElementById("errors")?.focus();
