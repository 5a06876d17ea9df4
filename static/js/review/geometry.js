/** Boxes in KITTI's axes (x right, y down, z forward, metres) seen by a pinhole camera and from above. */

const NEAR = 0.1;

/** Pairs of corners to draw, bottom face, top face, uprights. */
export const EDGES = [
  [0, 1], [1, 2], [2, 3], [3, 0],
  [4, 5], [5, 6], [6, 7], [7, 4],
  [0, 4], [1, 5], [2, 6], [3, 7],
];
/** The corners at the end the object faces (+length). */
export const FRONT = [0, 1, 5, 4];

/** Eight [x, y, z]: four of the bottom face in turn, then the four above them. */
export function corners({ location: [x, y, z], dimensions_hwl: [h, w, l], rotation_y: angle }) {
  const cosine = Math.cos(angle);
  const sine = Math.sin(angle);
  const ground = [[l / 2, w / 2], [l / 2, -w / 2], [-l / 2, -w / 2], [-l / 2, w / 2]];
  const at = (height) => ground.map(([a, b]) => [x + cosine * a + sine * b, y - height, z - sine * a + cosine * b]);
  return [...at(0), ...at(h)];
}

export function project([x, y, z], { fx, fy, cx, cy }) {
  return [(fx * x) / z + cx, (fy * y) / z + cy];
}

/**
 * The edges of a box as pixel segments [[u1, v1], [u2, v2]], cut where they pass behind the camera.
 * `shift`: how far right of the left eye the camera stands, in metres.
 */
export function projectedEdges(box, camera, shift = 0) {
  const points = corners(box).map(([x, y, z]) => [x - shift, y, z]);
  const segments = [];
  for (const [i, j] of EDGES) {
    let [a, b] = [points[i], points[j]];
    if (a[2] < NEAR && b[2] < NEAR) continue;
    if (a[2] < NEAR) a = cut(b, a);
    else if (b[2] < NEAR) b = cut(a, b);
    segments.push([project(a, camera), project(b, camera)]);
  }
  return segments;
}

/** The pixels of the face an object looks with, or null if it is not wholly before the camera. */
export function projectedFront(box, camera, shift = 0) {
  const points = corners(box).map(([x, y, z]) => [x - shift, y, z]);
  return FRONT.every((n) => points[n][2] >= NEAR) ? FRONT.map((n) => project(points[n], camera)) : null;
}

function cut(before, behind) {
  const share = (before[2] - NEAR) / (before[2] - behind[2]);
  return before.map((value, n) => value + share * (behind[n] - value));
}

/** The box's outline on the ground, four [x, z]. */
export const footprint = (box) => corners(box).slice(0, 4).map(([x, , z]) => [x, z]);
