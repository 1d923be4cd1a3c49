// What is being edited: the keyframe document, the frame that is looked at, the copied pose, and
// what can be undone.
import { trackOf, writeDocument } from "./document.mjs";
import { inverse, times } from "./pose.mjs";

const UNDO_STEPS = 200;
const STILL = { position: [0, 0, 0], turn: [0, 0, 0, 1] };
const angleBetween = (a, b) => 2 * Math.acos(Math.min(1, Math.abs(times(a, inverse(b))[3])));
const NEAR = 0.5 - 1e-6; // a keyframe within half a frame belongs to that frame

// A document with a keyframe of this pose at a moment.
function keyed(content, moment, pose) {
  const { keys, mode } = content;
  const before = keys.filter((key) => key.moment < moment - 1e-9);
  const after = keys.filter((key) => key.moment > moment + 1e-9);
  const old = keys.find((key) => Math.abs(key.moment - moment) <= 1e-9);
  const added = { moment, pose, mode: (old ?? before.at(-1))?.mode ?? mode };
  return { ...content, keys: [...before, added, ...after] };
}

export class EditorState {
  constructor(content, clip) {
    this.content = content;
    this.clip = clip;
    this.frame = 0;
    this.copied = null;
    this.undoable = [];
    this.redoable = [];
    this.listeners = new Set();
    // the track of the content that was asked about last
    this.path = { content: null, track: null };
    this.start = null; // the document before a drag that is still going on
    this.rest = STILL; // where the camera stands while there is no keyframe
  }

  get track() {
    if (this.path.content !== this.content)
      this.path = { content: this.content, track: trackOf(this.content, this.rest) };
    return this.path.track;
  }

  get text() {
    return writeDocument(this.content);
  }

  on(listener) {
    this.listeners.add(listener);
  }

  // kinds: "frame", "content" (also while dragging), "commit" (to be written into the node), "clip"
  tell(kind) {
    for (const listener of this.listeners) listener(kind);
  }

  poseAt(frame = this.frame) {
    return this.content.keys.length || this.content.looks.length
      ? this.track.at(this.momentAt(frame))
      : this.rest;
  }

  momentAt(frame) {
    const moments = this.clip.moments(this.content.clock);
    const low = Math.min(Math.max(Math.floor(frame), 0), moments.length - 1);
    const high = Math.min(low + 1, moments.length - 1);
    return moments[low] + (moments[high] - moments[low]) * (frame - low);
  }

  frameOfKey(i, kind = "keys") {
    return this.clip.frameOf(this.content[kind][i].moment, this.content.clock);
  }

  // The keyframe (or look) of a frame, -1 without one.
  keyAt(frame = this.frame, kind = "keys") {
    const { [kind]: keys, clock } = this.content;
    let best = -1;
    let off = NEAR;
    keys.forEach((key, i) => {
      const apart = Math.abs(this.clip.frameOf(key.moment, clock) - frame);
      if (this.clip.contains(key.moment, clock) && apart < off) [best, off] = [i, apart];
    });
    return best;
  }

  setFrame(frame) {
    const wanted = Math.min(Math.max(Math.round(frame), 0), this.clip.count - 1);
    if (wanted === this.frame) return;
    this.frame = wanted;
    this.tell("frame");
  }

  setClip(clip) {
    this.clip = clip;
    this.frame = Math.min(this.frame, clip.count - 1);
    this.tell("clip");
  }

  // -- changes

  // Everything between begin and end is one step to undo.
  begin() {
    this.start ??= this.content;
  }

  end() {
    const start = this.start;
    this.start = null;
    if (start === null || start === this.content) return;
    this.undoable.push(start);
    if (this.undoable.length > UNDO_STEPS) this.undoable.shift();
    this.redoable = [];
    this.tell("commit");
  }

  change(content) {
    const dragging = this.start !== null;
    this.begin();
    this.content = content;
    this.tell("content");
    if (!dragging) this.end();
  }

  undo() {
    this.step(this.undoable, this.redoable);
  }

  redo() {
    this.step(this.redoable, this.undoable);
  }

  step(from, to) {
    if (!from.length || this.start !== null) return;
    to.push(this.content);
    this.content = from.pop();
    this.tell("content");
    this.tell("commit");
  }

  withKeys(keys) {
    this.change({ ...this.content, keys });
  }

  // The camera of the current frame: its keyframe is changed, or one is added. Who turns it by hand
  // where the wearer looks at a point takes that point away. Elsewhere the bent path is to pass
  // through this very pose: the path's own poses at the points become keyframes, so that no bend
  // changes by the new one.
  setPose(pose) {
    const { looks } = this.content;
    const look = this.keyAt(this.frame, "looks");
    const turned = look < 0 || angleBetween(pose.turn, this.poseAt().turn) > 1e-6;
    let content = { ...this.content, looks: turned ? looks.filter((_, i) => i !== look) : looks };
    const track = trackOf(content, this.rest);
    for (const { moment } of content.looks) content = keyed(content, moment, track.own(moment));
    const at = this.keyAt();
    const moment =
      at < 0 ? this.clip.momentAt(this.frame, content.clock) : this.content.keys[at].moment;
    const own = track.own(moment).turn;
    const turn = !turned
      ? own
      : looks.length
        ? times(times(own, inverse(track.at(moment).turn)), pose.turn)
        : pose.turn;
    this.change(keyed(content, moment, { ...pose, turn }));
  }

  // What the wearer looks at in this frame.
  setLook(point) {
    const moment = this.clip.momentAt(this.frame, this.content.clock);
    const others = this.content.looks.filter((_, i) => i !== this.keyAt(this.frame, "looks"));
    const looks = [...others, { moment, point }].sort((a, b) => a.moment - b.moment);
    this.change({ ...this.content, looks });
  }

  setRest(pose) {
    this.rest = pose;
    this.path.content = null;
    if (!this.content.keys.length) this.tell("content");
  }

  // No keyframe: the camera rests.
  clear() {
    if (this.content.keys.length || this.content.looks.length)
      this.change({ ...this.content, keys: [], looks: [] });
  }

  addKey() {
    if (this.keyAt() < 0) this.setPose(this.poseAt());
  }

  // A look of this frame goes before its keyframe.
  deleteKey(i = this.keyAt()) {
    const { keys, looks } = this.content;
    const look = this.keyAt(this.frame, "looks");
    if (look >= 0)
      return this.change({ ...this.content, looks: looks.filter((_, k) => k !== look) });
    if (i >= 0 && keys.length > 1) this.withKeys(keys.filter((_, k) => k !== i));
  }

  // To another frame, but not past its neighbours; where that frame is taken the keyframe stays.
  moveKey(i, frame, kind = "keys") {
    const { [kind]: keys, clock } = this.content;
    const moment = this.clip.momentAt(frame, clock);
    if (
      moment === keys[i].moment ||
      keys.some((key, k) => k !== i && Math.abs(key.moment - moment) < 1e-9)
    )
      return;
    if (keys[i - 1]?.moment >= moment || keys[i + 1]?.moment <= moment) return;
    this.change({
      ...this.content,
      [kind]: keys.map((key, k) => (k === i ? { ...key, moment } : key)),
    });
  }

  copy() {
    this.copied = this.poseAt();
  }

  paste() {
    if (this.copied) this.setPose(this.copied);
  }

  // How the path goes on from a keyframe, or from all of them.
  setMode(mode, i = null) {
    if (i !== null)
      return this.withKeys(this.content.keys.map((key, k) => (k === i ? { ...key, mode } : key)));
    return this.change({
      ...this.content,
      mode,
      keys: this.content.keys.map((key) => ({ ...key, mode })),
    });
  }

  // Another document to begin with: no change of the node's value, no step to undo.
  show(content) {
    this.content = content;
    this.tell("content");
  }

  setUp(up) {
    this.change({ ...this.content, up, upGiven: true });
  }

  // What up is, where the document doesn't say or (anew) says it of another scene: the poses stay,
  // only the numbers that are shown change. Not undoable.
  learnUp(up, anew = false) {
    if ((this.content.upGiven && !anew) || this.start !== null) return;
    this.content = { ...this.content, up: [...up] };
    this.tell("content");
  }
}
