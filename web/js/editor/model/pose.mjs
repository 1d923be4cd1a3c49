// Poses of an upright camera, as egox_core/trajectory/keyframes.py and poses.py have them: OpenCV
// axes (x right, y down, z forward), metres. A pose is { position: [x, y, z], turn: [x, y, z, w] },
// turn being the rotation world_from_camera. Plain arrays and no three.js, so that the tests run it
// beside the Python.

export const DEFAULT_UP = [0, -1, 0];
const RAD = Math.PI / 180;

export const add = (a, b) => [a[0] + b[0], a[1] + b[1], a[2] + b[2]];
export const sub = (a, b) => [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
export const scale = (a, s) => [a[0] * s, a[1] * s, a[2] * s];
export const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
export const cross = (a, b) => [
  a[1] * b[2] - a[2] * b[1],
  a[2] * b[0] - a[0] * b[2],
  a[0] * b[1] - a[1] * b[0],
];
export const length = (a) => Math.hypot(a[0], a[1], a[2]);
export const unit = (a) => scale(a, 1 / Math.max(length(a), 1e-12));

// Rows of camera_from_world: right, down, forward. Null where the horizon is undefined (straight up
// or down).
export function lookRows(forward, up, rollDeg = 0) {
  const right = cross(forward, unit(up));
  if (length(forward) < 1e-9 || length(right) < 1e-6 * length(forward)) return null;
  const ahead = unit(forward);
  const side = unit(right);
  const down = cross(ahead, side);
  const c = Math.cos(rollDeg * RAD);
  const s = Math.sin(rollDeg * RAD);
  return [add(scale(side, c), scale(down, s)), sub(scale(down, c), scale(side, s)), ahead];
}

export function levelRows(up) {
  const above = unit(up);
  const start = Math.abs(above[2]) < 0.9 ? [0, 0, 1] : [0, 1, 0];
  return lookRows(sub(start, scale(above, dot(start, above))), above);
}

// Intrinsic turns about the camera's down, right and forward axes.
function eulerMatrix(yawDeg, pitchDeg, rollDeg) {
  const [cy, sy] = [Math.cos(yawDeg * RAD), Math.sin(yawDeg * RAD)];
  const [cx, sx] = [Math.cos(pitchDeg * RAD), Math.sin(pitchDeg * RAD)];
  const [cz, sz] = [Math.cos(rollDeg * RAD), Math.sin(rollDeg * RAD)];
  return [
    [cy * cz + sy * sx * sz, -cy * sz + sy * sx * cz, sy * cx],
    [cx * sz, cx * cz, -sx],
    [-sy * cz + cy * sx * sz, sy * sz + cy * sx * cz, cy * cx],
  ];
}

export const transpose = (m) => [0, 1, 2].map((i) => [m[0][i], m[1][i], m[2][i]]);
export const multiply = (a, b) =>
  a.map((row) => [0, 1, 2].map((j) => row[0] * b[0][j] + row[1] * b[1][j] + row[2] * b[2][j]));
export const apply = (m, v) => [dot(m[0], v), dot(m[1], v), dot(m[2], v)];

// Shepperd's way: the largest of the four parts is found first, so that no square root is near 0.
export function quaternion(m) {
  const trace = m[0][0] + m[1][1] + m[2][2];
  const parts = [m[0][0], m[1][1], m[2][2], trace];
  const largest = parts.indexOf(Math.max(...parts));
  let q;
  if (largest === 3) {
    q = [m[2][1] - m[1][2], m[0][2] - m[2][0], m[1][0] - m[0][1], 1 + trace];
  } else {
    const [i, j, k] = [largest, (largest + 1) % 3, (largest + 2) % 3];
    q = [0, 0, 0, m[k][j] - m[j][k]];
    q[i] = 1 - trace + 2 * m[i][i];
    q[j] = m[j][i] + m[i][j];
    q[k] = m[k][i] + m[i][k];
  }
  const size = Math.hypot(...q);
  return q.map((v) => v / size);
}

// The rotation b, then a.
export const times = ([ax, ay, az, aw], [bx, by, bz, bw]) => [
  aw * bx + ax * bw + ay * bz - az * by,
  aw * by - ax * bz + ay * bw + az * bx,
  aw * bz + ax * by - ay * bx + az * bw,
  aw * bw - ax * bx - ay * by - az * bz,
];
export const inverse = ([x, y, z, w]) => [-x, -y, -z, w];

export function matrix([x, y, z, w]) {
  return [
    [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
    [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
    [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
  ];
}

export function fromAngles(position, yawDeg, pitchDeg, rollDeg, up = DEFAULT_UP) {
  const worldFromCamera = multiply(
    transpose(levelRows(up)),
    eulerMatrix(yawDeg, pitchDeg, rollDeg),
  );
  return { position: [...position], turn: quaternion(worldFromCamera) };
}

// [yaw, pitch, roll] in degrees. Straight up or down yaw takes all of the turn.
export function toAngles(turn, up = DEFAULT_UP) {
  const m = multiply(levelRows(up), matrix(turn));
  const level = Math.hypot(m[0][2], m[2][2]);
  const pitch = Math.atan2(-m[1][2], level);
  const upright = level < 1e-9;
  const yaw = upright ? Math.atan2(-m[2][0], m[0][0]) : Math.atan2(m[0][2], m[2][2]);
  const roll = upright ? 0 : Math.atan2(m[1][0], m[1][1]);
  return [yaw / RAD, pitch / RAD, roll / RAD];
}

export function lookAt(position, target, up = DEFAULT_UP, rollDeg = 0) {
  const rows = lookRows(sub(target, position), up, rollDeg);
  return rows && { position: [...position], turn: quaternion(transpose(rows)) };
}

const QUARTERS = [
  [1, 0],
  [0, 1],
  [-1, 0],
  [0, -1],
]; // cosine and sine

// Of a sensor that is turned against the stored, upright picture by quarter turns: see
// sensor_from_upright.
export function fromW2c(w2c, quarterTurns = 0) {
  const [cos, sin] = QUARTERS[quarterTurns % 4];
  const rotation = w2c.map((row) => row.slice(0, 3));
  const uprightFromSensor = [
    [cos, -sin, 0],
    [sin, cos, 0],
    [0, 0, 1],
  ];
  const shift = w2c.map((row) => row[3]);
  return {
    position: scale(apply(transpose(rotation), shift), -1),
    turn: quaternion(transpose(multiply(uprightFromSensor, rotation))),
  };
}

// Upright [R | t], camera_from_world.
export function toW2c({ position, turn }) {
  const rotation = transpose(matrix(turn));
  const shift = apply(rotation, position);
  return rotation.map((row, i) => [...row, -shift[i]]);
}

// The world's direction that is up in a camera's picture, in the digits that a document keeps.
export const upOf = (turn) => matrix(turn).map((row) => Math.round(-row[1] * 1e4) / 1e4 + 0);
export const forward = (turn) => matrix(turn).map((row) => row[2]);
