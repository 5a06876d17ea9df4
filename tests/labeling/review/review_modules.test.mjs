// Run by test_javascript.py, which writes cases.json beside the modules: what pycocotools and the engine say.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { trackColor } from "./review/colors.js";
import { corners, footprint, projectedEdges } from "./review/geometry.js";
import { covers, decodeMask, runLengths } from "./review/rle.js";

const cases = JSON.parse(readFileSync(new URL("./cases.json", import.meta.url)));
const near = (a, b, tolerance) => a.every((value, n) => Math.abs(value - b[n]) <= tolerance);

test("masks decode to the pixels pycocotools decodes", () => {
  assert.ok(cases.masks.length > 50);
  for (const { rle, pixels } of cases.masks) assert.deepEqual([...decodeMask(rle)], pixels);
});

test("the runs of a mask cover it exactly", () => {
  for (const { rle } of cases.masks) {
    assert.equal(runLengths(rle.counts).reduce((sum, run) => sum + run, 0), rle.size[0] * rle.size[1]);
  }
});

test("a point is on a mask only where its pixel is set", () => {
  const mask = { left: 10, top: 5, ...cases.masks[0].rle };
  const pixels = decodeMask(mask);
  const [height, width] = mask.size;
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      assert.equal(covers(mask, pixels, 10 + column + 0.5, 5 + row + 0.5), pixels[row * width + column] === 1);
    }
  }
  assert.equal(covers(mask, pixels, 9.9, 5.5), false);
  assert.equal(covers(mask, pixels, 10 + width, 5.5), false);
});

test("boxes have the corners the engine gives them, and the footprint of a level camera", () => {
  for (const { box, expected, from_above: above } of cases.boxes) {
    corners(box).forEach((point, n) => assert.ok(near(point, expected[n], 1e-9)));
    footprint(box).forEach((point, n) => assert.ok(near(point, above[n], 1e-9)));
  }
});

test("a box before the camera shows all its edges, one behind it none, one across it those in front", () => {
  const camera = { fx: 500, fy: 500, cx: 320, cy: 240 };
  const box = (z) => ({ location: [0, 1, z], dimensions_hwl: [1, 1, 4], rotation_y: Math.PI / 2 });
  assert.equal(projectedEdges(box(10), camera).length, 12);
  assert.equal(projectedEdges(box(-10), camera).length, 0);
  const across = projectedEdges(box(0), camera);
  assert.ok(across.length > 4 && across.length < 12);
  assert.ok(across.flat(2).every(Number.isFinite));
});

test("the right eye sees a box further left", () => {
  const camera = { fx: 500, fy: 500, cx: 320, cy: 240 };
  const box = { location: [0, 1, 5], dimensions_hwl: [1, 1, 1], rotation_y: 0 };
  const [left, right] = [0, 0.12].map((shift) => projectedEdges(box, camera, shift)[0][0][0]);
  assert.ok(right < left);
});

test("neighbouring tracks differ in colour, and a track keeps its own", () => {
  for (let number = 1; number < 50; number++) {
    const [a, b] = [trackColor(number), trackColor(number + 1)];
    assert.ok(Math.hypot(...a.map((value, n) => value - b[n])) > 60);
    assert.deepEqual(trackColor(number), a);
    assert.ok(a.every((value) => Number.isInteger(value) && value >= 0 && value <= 255));
  }
});
