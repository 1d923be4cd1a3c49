// What is being edited: the keyframe document, the frame that is looked at, the copied pose, and what can be undone.
import { trackOf, writeDocument } from "./document.mjs";

const UNDO_STEPS = 200;
const STILL = { position: [0, 0, 0], turn: [0, 0, 0, 1] };
const NEAR = 0.5 - 1e-6; // a keyframe within half a frame belongs to that frame

export class EditorState {
  constructor(content, clip) {
    this.content = content;
    this.clip = clip;
    this.frame = 0;
    this.copied = null;
    this.undoable = [];
    this.redoable = [];
    this.listeners = new Set();
    this.path = { content: null, track: null }; // the track of the content that was asked about last
    this.start = null; // the document before a drag that is still going on
    this.rest = STILL; // where the camera stands while there is no keyframe
  }

  get track() {
    if (this.path.content !== this.content) this.path = { content: this.content, track: trackOf(this.content) };
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
    return this.content.keys.length ? this.track.at(this.momentAt(frame)) : this.rest;
  }

  momentAt(frame) {
    const moments = this.clip.moments(this.content.clock);
    const low = Math.min(Math.max(Math.floor(frame), 0), moments.length - 1);
    const high = Math.min(low + 1, moments.length - 1);
    return moments[low] + (moments[high] - moments[low]) * (frame - low);
  }

  frameOfKey(i) {
    return this.clip.frameOf(this.content.keys[i].moment, this.content.clock);
  }

  // The keyframe of a frame, -1 without one.
  keyAt(frame = this.frame) {
    const { keys, clock } = this.content;
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

  // The camera of the current frame: its keyframe is changed, or one is added.
  setPose(pose) {
    const { keys, clock, mode } = this.content;
    const at = this.keyAt();
    if (at >= 0) return this.withKeys(keys.map((key, i) => (i === at ? { ...key, pose } : key)));
    const moment = this.clip.momentAt(this.frame, clock);
    const before = keys.filter((key) => key.moment < moment);
    const added = { moment, pose, mode: before.at(-1)?.mode ?? mode };
    return this.withKeys([...before, added, ...keys.slice(before.length)]);
  }

  setRest(pose) {
    this.rest = pose;
    if (!this.content.keys.length) this.tell("content");
  }

  // No keyframe: the camera rests.
  clear() {
    if (this.content.keys.length) this.withKeys([]);
  }

  addKey() {
    if (this.keyAt() < 0) this.setPose(this.poseAt());
  }

  deleteKey(i = this.keyAt()) {
    const { keys } = this.content;
    if (i >= 0 && keys.length > 1) this.withKeys(keys.filter((_, k) => k !== i));
  }

  // To another frame, but not past its neighbours; where that frame is taken the keyframe stays.
  moveKey(i, frame) {
    const { keys, clock } = this.content;
    const moment = this.clip.momentAt(frame, clock);
    if (moment === keys[i].moment || keys.some((key, k) => k !== i && Math.abs(key.moment - moment) < 1e-9)) return;
    if (keys[i - 1]?.moment >= moment || keys[i + 1]?.moment <= moment) return;
    this.withKeys(keys.map((key, k) => (k === i ? { ...key, moment } : key)));
  }

  copy() {
    this.copied = this.poseAt();
  }

  paste() {
    if (this.copied) this.setPose(this.copied);
  }

  // How the path goes on from a keyframe, or from all of them.
  setMode(mode, i = null) {
    if (i !== null) return this.withKeys(this.content.keys.map((key, k) => (k === i ? { ...key, mode } : key)));
    return this.change({ ...this.content, mode, keys: this.content.keys.map((key) => ({ ...key, mode })) });
  }

  // Another document to begin with: no change of the node's value, no step to undo.
  show(content) {
    this.content = content;
    this.tell("content");
  }

  setUp(up) {
    this.change({ ...this.content, up, upGiven: true });
  }

  // What up is, where the document doesn't say or (anew) says it of another scene: the poses stay, only the numbers
  // that are shown change. Not undoable.
  learnUp(up, anew = false) {
    if ((this.content.upGiven && !anew) || this.start !== null) return;
    this.content = { ...this.content, up: [...up] };
    this.tell("content");
  }

  replace(content) {
    this.change(content);
  }
}
