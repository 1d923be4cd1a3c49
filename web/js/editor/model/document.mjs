// The node's value: a keyframe document as egox_core/trajectory/keyframes.py reads it, in and out
// of text.
// In memory: { up, upGiven, mode, clock: "frame" | "time_s", keys: [{ moment, pose, mode }], looks:
// [{ moment, point }], madeOn }, never changed in place; upGiven: the text says what up is (else
// the scene may); madeOn: { video, id } of the video that it belongs to.
import { DEFAULT_UP, add, forward, fromAngles, fromW2c, lookAt, toAngles } from "./pose.mjs";
import { MODES, Track } from "./track.mjs";

const ANGLES = ["yaw_deg", "pitch_deg", "roll_deg"];
const KNOWN = new Set([
  "frame",
  "time_s",
  "position",
  "look_at",
  "w2c",
  "interpolation",
  ...ANGLES,
]);

export class DocumentError extends Error {}

// clip gives a lone keyframe without a moment its place; quarterTurns belongs to the camera that
// w2c is meant for.
export function parseDocument(text, clip, quarterTurns = 0) {
  let content;
  if (typeof text === "string" && !text.trim()) text = [];
  try {
    content = typeof text === "string" ? JSON.parse(text) : text;
  } catch (error) {
    throw new DocumentError(error.message);
  }
  if (Array.isArray(content)) content = { keyframes: content };
  const list = content?.keyframes;
  if (!Array.isArray(list) || list.some((k) => !k || typeof k !== "object" || Array.isArray(k)))
    throw new DocumentError("no list of keyframes");
  const up = content.up === undefined ? [...DEFAULT_UP] : numbers(content.up, 3, "up");
  if (Math.hypot(...up) < 1e-9) throw new DocumentError("up has no direction");
  const mode = checkedMode(content.interpolation ?? "spline");
  const given = content.looks ?? [];
  if (!Array.isArray(given) || given.some((look) => !look || typeof look !== "object"))
    throw new DocumentError("looks is no list of points");
  const clock =
    "time_s" in ((list.length < 2 ? given[0] : null) ?? list[0] ?? {}) ? "time_s" : "frame";
  const keys = list.map((item, i) =>
    parseKey(item, i, { up, mode, clock, clip, quarterTurns, alone: list.length === 1 }),
  );
  for (let i = 1; i < keys.length; i++)
    if (!(keys[i].moment > keys[i - 1].moment))
      throw new DocumentError(`keyframe ${i} is not later than the one before`);
  const looks = given.map((look, i) => ({
    moment: numbers([look[clock]], 1, `${clock} of look ${i}`)[0],
    point: numbers(look.point, 3, `point of look ${i}`),
  }));
  if (looks.some((look, i) => i && look.moment <= looks[i - 1].moment))
    throw new DocumentError("looks do not rise");
  return {
    up,
    upGiven: content.up !== undefined,
    mode,
    clock,
    keys,
    looks,
    madeOn: content.made_on,
  };
}

function parseKey(item, i, { up, mode, clock, clip, quarterTurns, alone }) {
  const unknown = Object.keys(item).find((key) => !KNOWN.has(key));
  if (unknown) throw new DocumentError(`keyframe ${i}: unknown key ${unknown}`);
  if (!(clock in item) && !alone) throw new DocumentError(`keyframe ${i} has no ${clock}`);
  const moment =
    clock in item
      ? numbers([item[clock]], 1, `${clock} of keyframe ${i}`)[0]
      : clip.momentAt(0, clock);
  return {
    moment,
    pose: parsePose(item, i, up, quarterTurns),
    mode: checkedMode(item.interpolation ?? mode),
  };
}

function parsePose(item, i, up, quarterTurns) {
  if (item.w2c) {
    if (!Array.isArray(item.w2c) || item.w2c.length < 3)
      throw new DocumentError(`w2c of keyframe ${i} is no pose`);
    return fromW2c(
      item.w2c.slice(0, 3).map((row) => numbers(row, 4, `w2c of keyframe ${i}`)),
      quarterTurns,
    );
  }
  const position = numbers(item.position, 3, `position of keyframe ${i}`);
  const [yaw, pitch, roll] = ANGLES.map(
    (key) => numbers([item[key] ?? 0], 1, `${key} of keyframe ${i}`)[0],
  );
  if (!item.look_at) {
    if (!ANGLES.some((key) => key in item))
      throw new DocumentError(`keyframe ${i} says not where it looks`);
    return fromAngles(position, yaw, pitch, roll, up);
  }
  const pose = lookAt(position, numbers(item.look_at, 3, `look_at of keyframe ${i}`), up, roll);
  if (!pose)
    throw new DocumentError(`look_at of keyframe ${i} is straight above or below it, or at it`);
  return pose;
}

function numbers(values, count, what) {
  if (!Array.isArray(values) || values.length !== count || !values.every((v) => Number.isFinite(v)))
    throw new DocumentError(`${what}: ${count} number(s) expected`);
  return [...values];
}

function checkedMode(mode) {
  if (!MODES.includes(mode))
    throw new DocumentError(`interpolation ${JSON.stringify(mode)} is none of ${MODES.join(", ")}`);
  return mode;
}

const round = (value, digits) => {
  const rounded = Number(value.toFixed(digits));
  return Object.is(rounded, -0) ? 0 : rounded;
};

// A document as plain JSON: one keyframe a line, so that it can also be read and edited by hand.
export function writeDocument({ up, mode, clock, keys, looks, madeOn }) {
  const head = [];
  if (madeOn) head.push(`"made_on": ${JSON.stringify(madeOn)}`);
  if (up.some((v, i) => v !== DEFAULT_UP[i])) head.push(`"up": ${JSON.stringify(up)}`);
  head.push(`"interpolation": ${JSON.stringify(mode)}`);
  const points = looks.map(({ moment, point }) => ({
    [clock]: moment,
    point: point.map((v) => round(v, 5)),
  }));
  if (points.length) head.push(`"looks": ${JSON.stringify(points)}`);
  const lines = keys.map(
    (key) =>
      `  ${JSON.stringify(writeKey(key, up, mode, clock)).replace(/([:,])(?=["[\d-])/g, "$1 ")}`,
  );
  if (!lines.length) return `{${head.join(", ")}, "keyframes": []}`;
  return `{${head.join(", ")}, "keyframes": [\n${lines.join(",\n")}\n]}`;
}

function writeKey(key, up, mode, clock) {
  const angles = toAngles(key.pose.turn, up);
  const written = { [clock]: key.moment, position: key.pose.position.map((v) => round(v, 6)) };
  ANGLES.forEach((name, i) => (written[name] = round(angles[i], 5)));
  if (key.mode !== mode) written.interpolation = key.mode;
  return written;
}

// rest: the pose while there is no keyframe
export const trackOf = ({ keys, looks, up }, rest) =>
  new Track(keys.length ? keys : [{ moment: 0, pose: rest, mode: "spline" }], looks, up);

// The same places and gazes in the exo picture when its lens is another one: of what is seen at the
// same depth, x and y are `wider` times as far out (scene in the exo camera's own frame).
export function throughLens(content, wider) {
  const seen = ([x, y, z]) => [x * wider, y * wider, z];
  const moved = ({ position, turn }) => {
    const [place, target] = [position, add(position, forward(turn))].map(seen);
    return (
      lookAt(place, target, content.up, toAngles(turn, content.up)[2]) ?? { position: place, turn }
    );
  };
  const looks = content.looks.map((look) => ({ ...look, point: seen(look.point) }));
  return {
    ...content,
    looks,
    keys: content.keys.map((key) => ({ ...key, pose: moved(key.pose) })),
  };
}
