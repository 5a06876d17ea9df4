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

/**
 * The smallest rotation (three rows) that takes `down` to +y: from the axes of the camera to those of a level one.
 * null stands for a camera that is level already. The engine's level_rotation.
 */
function levelRotation(down) {
  if (!down) return [[1, 0, 0], [0, 1, 0], [0, 0, 1]];
  const length = Math.hypot(...down);
  const [x, y, z] = down.map((value) => value / length);
  if (y < -1 + 1e-9) return [[-1, 0, 0], [0, -1, 0], [0, 0, 1]]; // upside down: half a turn about the optical axis
  const k = 1 / (1 + y);
  return [
    [1 - k * x * x, -x, -k * x * z],
    [x, y, z],
    [-k * x * z, -z, 1 - k * z * z],
  ];
}

const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];

/**
 * Eight [x, y, z]: four of the bottom face in turn, then the four above them. The box stands along its `down` (null: +y),
 * and rotation_y counts about it.
 */
export function corners({ location, dimensions_hwl: [h, w, l], rotation_y: angle, down = null }) {
  const cosine = Math.cos(angle);
  const sine = Math.sin(angle);
  const rows = levelRotation(down);
  const ground = [[l / 2, w / 2], [l / 2, -w / 2], [-l / 2, -w / 2], [-l / 2, w / 2]];
  const at = (height) => ground.map(([a, b]) => {
    const level = [cosine * a + sine * b, -height, cosine * b - sine * a];
    return location.map((value, n) => value + dot(rows.map((row) => row[n]), level)); // back by the transpose
  });
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

/** A point of the camera's axes from above: [right, ahead] on level ground. */
function fromAbove(point, down) {
  const [right, , ahead] = levelRotation(down).map((row) => dot(row, point));
  return [right, ahead];
}

/** Where a box stands, from above: [right, ahead]. */
export const groundPoint = ({ location, down = null }) => fromAbove(location, down);

/** The box's outline from above, four [right, ahead]. */
export const footprint = (box) => corners(box).slice(0, 4).map((point) => fromAbove(point, box.down ?? null));
