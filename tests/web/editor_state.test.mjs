// Run by node --test, from tests/web/test_editor_modules.py: the editor's parts that need no page.
import assert from "node:assert/strict";
import { test } from "node:test";
import { FrameClock } from "../../web/js/editor/model/frame_clock.mjs";
import {
  DocumentError,
  parseDocument,
  writeDocument,
} from "../../web/js/editor/model/document.mjs";
import { LatestOnly } from "../../web/js/editor/server.mjs";
import { EditorState } from "../../web/js/editor/model/state.mjs";
import {
  fromAngles,
  fromW2c,
  lookAt,
  toAngles,
  toW2c,
  upOf,
} from "../../web/js/editor/model/pose.mjs";

const clip = FrameClock.standard(49, 30);
const key = (frame, x, more = {}) => ({ frame, position: [x, 0, 1], yaw_deg: 0, ...more });
const stateOf = (...keys) => new EditorState(parseDocument(keys, clip), clip);
const frames = (state) => state.content.keys.map((k) => k.moment);

function close(a, b, tolerance = 1e-9) {
  a.flat(3).forEach((v, i) =>
    assert.ok(Math.abs(v - b.flat(3)[i]) <= tolerance, `${v} is not ${b.flat(3)[i]}`),
  );
}

test("angles and poses go there and back", () => {
  for (const angles of [
    [30, 20, 10],
    [-170, 89.5, -40],
    [120, -95 + 180, 3],
    [0, 0, 0],
  ])
    for (const up of [
      [0, -1, 0],
      [0, 0, 1],
      [0.1, -1, 0.2],
    ]) {
      const pose = fromAngles([1, 2, 3], ...angles, up);
      close(toAngles(pose.turn, up), angles, 1e-6);
      close(toW2c(fromW2c(toW2c(pose))), toW2c(pose));
    }
  assert.equal(lookAt([0, 0, 0], [0, 1, 0]), null); // straight down: the horizon is undefined
  close(toAngles(lookAt([0, 0, 0], [1, 0, 1]).turn), [45, 0, 0]);
});

test("a document survives being written and read", () => {
  const text = writeDocument(
    parseDocument(
      {
        up: [0, 0, 1],
        interpolation: "linear",
        keyframes: [key(0, 0.25), key(12, 0.5, { interpolation: "hold", pitch_deg: -31.5 })],
      },
      clip,
    ),
  );
  const again = parseDocument(text, clip);
  assert.equal(writeDocument(again), text);
  assert.deepEqual(
    again.keys.map((k) => k.mode),
    ["linear", "hold"],
  );
  assert.deepEqual(Object.keys(JSON.parse(text).keyframes[1]), [
    "frame",
    "position",
    "yaw_deg",
    "pitch_deg",
    "roll_deg",
    "interpolation",
  ]);
  assert.equal(text.split("\n").length, 4); // a keyframe a line
});

test("what Python refuses is refused", () => {
  for (const bad of [
    "[",
    "{}",
    "[1]",
    '[{"frame":0}]',
    '[{"frame":0,"position":[0,0],"yaw_deg":0}]',
    '[{"frame":0,"position":[0,0,0],"yaw_deg":0,"zoom":1}]',
    '[{"frame":0,"position":[0,0,0],"yaw_deg":"left"}]',
    '[{"frame":1,"position":[0,0,0],"yaw_deg":0},{"frame":0,"position":[0,0,0],"yaw_deg":0}]',
    '{"keyframes":[{"position":[0,0,0],"yaw_deg":0}],"interpolation":"jump"}',
    '[{"frame":0,"position":[0,0,0],"look_at":[0,1,0]}]',
  ])
    assert.throws(() => parseDocument(bad, clip), DocumentError, bad);
});

test("the camera of a frame is its keyframe, or a new one", () => {
  const state = stateOf(key(0, 0), key(48, 1));
  state.setFrame(24);
  const pose = { ...state.poseAt(), position: [5, 5, 5] };
  state.setPose(pose);
  assert.deepEqual(frames(state), [0, 24, 48]);
  state.setPose({ ...pose, position: [6, 6, 6] });
  assert.deepEqual(frames(state), [0, 24, 48]);
  assert.deepEqual(state.poseAt().position, [6, 6, 6]);
  state.deleteKey();
  assert.deepEqual(frames(state), [0, 48]);
  state.deleteKey(0);
  state.deleteKey(0);
  assert.equal(state.content.keys.length, 1); // one must stay
});

test("what is looked at bends the path; hands, moves and undo work on it", () => {
  const state = stateOf(key(0, 0), key(48, 1, { yaw_deg: 30 }));
  const ahead = ({ turn }) => toW2c({ position: [0, 0, 0], turn })[2].slice(0, 3);
  state.setFrame(24);
  const own = state.poseAt();
  state.setLook([0.5, 1, 1.9]);
  close(ahead(state.poseAt()), ahead(lookAt(own.position, [0.5, 1, 1.9])));
  const [before, text] = [state.poseAt(10), state.text];
  assert.equal(parseDocument(text, clip).looks.length, 1);
  state.setPose({ ...state.poseAt(), position: [0.5, 0.2, 1] }); // moved only: it still looks there
  close(ahead(state.poseAt()), ahead(lookAt([0.5, 0.2, 1], [0.5, 1, 1.9])));
  state.undo();
  state.setFrame(10);
  const wanted = fromAngles([0.2, 0, 1], 12, 3, 1);
  state.setPose(wanted); // turned by hand elsewhere: the bent path passes through that pose
  close(ahead(state.poseAt()), ahead(wanted), 1e-4);
  assert.equal(state.content.looks.length, 1);
  state.undo();
  close(state.poseAt().turn, before.turn);
  state.moveKey(0, 30, "looks");
  assert.deepEqual([state.keyAt(30, "looks"), state.keyAt(24, "looks")], [0, -1]);
  state.setFrame(30);
  state.setPose(wanted); // turned by hand at its own frame: the point goes
  assert.equal(state.content.looks.length, 0);
  state.undo();
  state.deleteKey();
  assert.equal(state.content.looks.length, 0);
  close(state.poseAt(24).turn, own.turn);
});

test("keyframes move between their neighbours only", () => {
  const state = stateOf(key(0, 0), key(10, 1), key(20, 2));
  state.moveKey(1, 15);
  state.moveKey(1, 20);
  state.moveKey(1, 30);
  assert.deepEqual(frames(state), [0, 15, 20]);
});

test("a drag is one step to undo, and undo and redo go all the way", () => {
  const state = stateOf(key(0, 0), key(10, 1));
  const kinds = [];
  state.on((kind) => kinds.push(kind));
  const texts = [state.text];
  state.begin();
  for (let frame = 11; frame < 20; frame++) state.moveKey(1, frame);
  state.end();
  assert.equal(kinds.filter((kind) => kind === "commit").length, 1);
  texts.push(state.text);
  state.setMode("hold");
  texts.push(state.text);
  state.undo();
  assert.equal(state.text, texts[1]);
  state.undo();
  assert.equal(state.text, texts[0]);
  state.undo(); // nothing left
  state.redo();
  state.redo();
  assert.equal(state.text, texts[2]);
  state.undo();
  state.addKey();
  assert.equal(state.redoable.length, 1); // frame 0 has a keyframe: nothing was changed
  state.setFrame(5);
  state.addKey();
  assert.equal(state.redoable.length, 0);
});

test("copies are poses", () => {
  const state = stateOf(key(0, 0), key(10, 1));
  state.copy();
  state.setFrame(30);
  state.paste();
  assert.deepEqual(frames(state), [0, 10, 30]);
  assert.deepEqual(state.poseAt(30).position, [0, 0, 1]);
});

test("another clip keeps keyframes at their moments", () => {
  const state = stateOf(key(0, 0), key(10, 1), key(40, 2));
  state.setClip(new FrameClock([8, 10, 12, 14], [0.4, 0.5, 0.6, 0.7]));
  assert.equal(state.frameOfKey(1), 1);
  assert.equal(state.keyAt(1), 1);
  assert.equal(state.keyAt(0), -1); // the first keyframe lies before the clip
  state.setFrame(2);
  state.addKey();
  assert.deepEqual(frames(state), [0, 10, 12, 40]);
});

test("a lone pose stands still", () => {
  const state = stateOf(key(0, 1));
  assert.deepEqual(state.poseAt(48).position, [1, 0, 1]);
  assert.deepEqual(JSON.parse(state.text).keyframes.length, 1);
});

test("without a keyframe the camera rests, and a path begun anew has only what was put into it", () => {
  for (const nothing of ["", "  ", "[]", '{"keyframes":[]}']) {
    const state = new EditorState(parseDocument(nothing, clip), clip);
    assert.deepEqual(state.poseAt(7).position, [0, 0, 0]);
    state.setRest(fromAngles([1, 2, 3], 10, 0, 0));
    assert.deepEqual(state.poseAt(7).position, [1, 2, 3]);
    assert.equal(state.keyAt(), -1);
  }
  const state = stateOf(key(0, 0), key(10, 1), key(40, 2));
  const before = state.text;
  state.clear();
  assert.deepEqual(JSON.parse(state.text).keyframes, []);
  state.clear(); // nothing left to take away
  assert.equal(state.undoable.length, 1);
  state.setFrame(12);
  state.setPose(fromAngles([4, 0, 0], 0, 0, 0));
  assert.deepEqual(frames(state), [12]);
  state.undo();
  state.undo();
  assert.equal(state.text, before);
  state.change(parseDocument({ up: [0, 0, 1], keyframes: [] }, clip));
  assert.deepEqual(parseDocument(state.text, clip).up, [0, 0, 1]);
  state.undo();
  assert.equal(state.text, before);
});

test("up that the document does not say is the scene's, and no pose changes by it", () => {
  const state = stateOf(key(0, 0, { pitch_deg: 20 }));
  const before = toW2c(state.poseAt());
  state.learnUp([0, 0, 1]);
  close(toW2c(state.poseAt()), before);
  assert.equal(state.undoable.length, 0);
  close(toW2c(parseDocument(state.text, clip).keys[0].pose), before, 1e-6);
  const given = new EditorState(
    parseDocument({ up: [0, -1, 0], keyframes: [key(0, 0)] }, clip),
    clip,
  );
  given.learnUp([0, 0, 1]);
  assert.deepEqual(given.content.up, [0, -1, 0]);
  const asked = toW2c(given.poseAt());
  given.learnUp([0, 0, 1], true); // it was said of another scene
  assert.deepEqual(given.content.up, [0, 0, 1]);
  close(toW2c(given.poseAt()), asked);
  given.setUp(upOf(given.poseAt().turn)); // the picture is level as it is
  close([toAngles(given.poseAt().turn, given.content.up)[2]], [0], 1e-2);
  close(toW2c(given.poseAt()), asked);
});

test("late wishes are dropped", async () => {
  const asked = [];
  let answer;
  const latest = new LatestOnly((wish) => {
    asked.push(wish);
    return new Promise((resolve) => (answer = resolve));
  });
  for (const wish of [1, 2, 3, 4]) latest.want(wish);
  answer();
  await new Promise((resolve) => setTimeout(resolve, 0));
  assert.deepEqual(asked, [1, 4]);
  answer();
});
