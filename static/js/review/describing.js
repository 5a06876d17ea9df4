/** What is known of an object, in words. */

import { groundPoint } from "./geometry.js";

/** One line for the list. */
export function describe({ box_3d: box, area, bbox }) {
  if (!box) return area ? `${area.toLocaleString("en")} px, no 3D box` : `${Math.round(bbox[2])} × ${Math.round(bbox[3])} px`;
  const [h, w, l] = box.dimensions_hwl.map((value) => value.toFixed(2));
  return `${Math.hypot(...groundPoint(box)).toFixed(1)} m away, ${h} × ${w} × ${l} m`;
}

/** The rows of a list of facts: how sure the model is of it, in what respect. What is not known is left out. */
export function factRows(item) {
  const percent = (value) => (value === null ? null : `${Math.round(value * 100)}%`);
  const others = item.top_predictions.slice(0, 3).map(({ class_label: name, confidence }) => `${name} ${percent(confidence)}`);
  const sigma = item.box_3d?.sigma;
  const facts = [
    ["Confidence", percent(item.confidence), "How sure the model is of the class"],
    ["Could be", others.length > 1 ? others.join(", ") : null, "The classes it found most likely"],
    ["Margin", percent(item.margin), "Best class probability minus the second best"],
    ["Mask quality", percent(item.quality), "Expected overlap of the mask with the true one"],
    ["Stability", percent(item.stability), "How little the mask changes when it is cut tighter or wider"],
    ["Agreement", percent(item.agreement), "Overlap with the mask found in the mirrored image"],
    ["Place", sigma && `± ${Math.hypot(...sigma.slice(0, 3)).toFixed(2)} m`, "Standard deviation of the 3D box's place"],
    ["Size", sigma && `± ${sigma.slice(3, 6).map((value) => value.toFixed(2)).join(" × ")} m`, "Of height, width, length"],
    ["Heading", sigma && `± ${Math.round((sigma[6] * 180) / Math.PI)}°`, "Standard deviation of the 3D box's heading"],
  ];
  return facts.filter(([, value]) => value).flatMap(([name, value, title]) => {
    const [term, description] = [document.createElement("dt"), document.createElement("dd")];
    [term.textContent, term.title, description.textContent] = [name, title, value];
    return [term, description];
  });
}
