/** COCO's compressed run-length encoding: runs of zeros and ones in turn, down the columns. */

/** The run lengths of a compressed RLE, zeros first (rleFrString of the COCO API). */
export function runLengths(counts) {
  const runs = [];
  let at = 0;
  while (at < counts.length) {
    let value = 0;
    let shift = 0;
    let digit;
    do {
      digit = counts.charCodeAt(at++) - 48;
      value += (digit & 0x1f) * 2 ** shift;
      shift += 5;
    } while (digit & 0x20);
    if (digit & 0x10) value -= 2 ** shift;
    if (runs.length > 2) value += runs[runs.length - 2];
    runs.push(value);
  }
  return runs;
}

/** The pixels of {size: [height, width], counts}: a Uint8Array of 0 and 1, row by row. */
export function decodeMask({ size: [height, width], counts }) {
  const pixels = new Uint8Array(height * width);
  let place = 0;
  let inside = false;
  for (const run of runLengths(counts)) {
    if (inside) {
      for (let n = place; n < place + run; n++) {
        const column = Math.floor(n / height);
        pixels[(n - column * height) * width + column] = 1;
      }
    }
    place += run;
    inside = !inside;
  }
  return pixels;
}

/** Whether a mask {left, top, size, counts, pixels} covers the point of the frame. */
export function covers(mask, pixels, x, y) {
  const [height, width] = mask.size;
  const column = Math.floor(x) - mask.left;
  const row = Math.floor(y) - mask.top;
  return column >= 0 && row >= 0 && column < width && row < height && pixels[row * width + column] === 1;
}

/** A canvas with the mask in `color` ([r, g, b]): see-through inside, solid along its edge. */
export function paintMask(mask, pixels, [r, g, b], { fill = 78, edge = 235 } = {}) {
  const [height, width] = mask.size;
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const n = y * width + x;
      if (!pixels[n]) continue;
      const onEdge =
        x === 0 || y === 0 || x === width - 1 || y === height - 1 ||
        !pixels[n - 1] || !pixels[n + 1] || !pixels[n - width] || !pixels[n + width];
      image.data.set([r, g, b, onEdge ? edge : fill], n * 4);
    }
  }
  context.putImageData(image, 0, 0);
  return canvas;
}
