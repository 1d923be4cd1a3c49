// The editor: its parts put together over the page, and what one tells the other.
import { FrameClock } from "./model/frame_clock.mjs";
import { DocumentError, parseDocument, stillDocument } from "./model/document.mjs";
import { EditorState } from "./model/state.mjs";
import { SceneView } from "./view/scene_view.mjs";
import { addStyle } from "./view/style.mjs";
import { ScenePart } from "./view/scene_part.mjs";
import { button, make } from "./view/elements.mjs";
import { buildLayout } from "./view/layout.mjs";
import { handleKey } from "./view/shortcuts.mjs";
import { fromAngles, fromW2c, lookAt } from "./model/pose.mjs";

const HINTS = { move: "hintOrbit", turn: "hintOrbit", look: "hintLook", snap: "hintSnap", aim: "hintAim" };

export class PoseEditor {
  // host: what the node and the page offer, see node_widget.mjs
  constructor(host, server, say) {
    Object.assign(this, { host, server, say });
    addStyle();
    const data = host.data();
    const clip = clockOf(data);
    this.state = new EditorState(this.readDocument(clip), clip);
    Object.assign(this, buildLayout(this));
    document.body.append(this.back);
    this.view = this.makeView();
    this.scene = new ScenePart(this);
    this.root.focus();
    // A button that is switched off while it has the focus loses it to the page: its keys must not reach the graph.
    this.strayKey = (event) => {
      if (this.back.contains(event.target)) return;
      event.stopImmediatePropagation();
      this.root.focus();
      handleKey(this, event);
    };
    window.addEventListener("keydown", this.strayKey, true);
    this.state.on((kind) => this.follow(kind));
    this.chooseTool("move");
    this.setTheme();
    this.setData(data);
    this.askCamera();
  }

  readDocument(clip) {
    const { text } = this.host;
    try {
      const content = parseDocument(text(), clip, this.host.quarterTurns());
      // The example shows how to write keyframes; nobody wants its second one in a path of their own.
      return this.host.isExample() ? { ...content, keys: content.keys.slice(0, 1) } : content;
    } catch (error) {
      if (!(error instanceof DocumentError)) throw error;
      this.fault = error.message;
      return parseDocument([{ position: [0, 0, 0], yaw_deg: 0 }], clip);
    }
  }

  makeView() {
    const { state } = this;
    return new SceneView(this.canvas, {
      onGrab: () => state.begin(),
      onPose: (pose) => state.setPose(pose),
      onRelease: () => state.end(),
      onPick: (point, tool) => (tool === "snap" ? this.placeAt(point) : this.aimAt(point)),
    });
  }

  setTheme() {
    const back = getComputedStyle(this.root)
      .backgroundColor.match(/[\d.]+/g)
      ?.map(Number) ?? [0, 0, 0];
    const light = back[0] + back[1] + back[2] > 380;
    this.view.setTheme(light ? "#e6e8eb" : "#15171a");
  }

  // -- what the node told of its run

  setData(data) {
    this.data = data;
    if (data) this.state.setClip(clockOf(data));
    if (data?.scene) this.state.learnUp(data.scene.up);
    const other = data?.path && this.host.source() !== "keyframes";
    this.view.ghost.object.visible = Boolean(other);
    if (other)
      this.view.ghost.set(
        data.path.map((w2c) => fromW2c(w2c)),
        [],
      );
    this.scene.set(data?.scene ?? null);
    this.showBanner();
    this.follow("clip");
    this.showOtherPath();
  }

  // Where nobody has written keyframes yet, the editor begins with the path that the node has from elsewhere.
  async showOtherPath() {
    const { data, host, state } = this;
    const wanted = host.source() !== "keyframes" && host.isExample() && data?.path?.length === state.clip.count;
    if (!wanted || !this.camera || state.undoable.length) return;
    try {
      const body = { ...this.context(), up: data.scene?.up ?? state.content.up, poses: data.path };
      const { document: content } = await this.server.json("import", body);
      const nothingDone = !state.undoable.length && state.start === null;
      if (!this.closed && nothingDone) state.show(parseDocument(content, state.clip, this.camera.quarter_turns));
    } catch (error) {
      this.scene.failed(error);
    }
  }

  async askCamera() {
    try {
      this.camera = await this.server.json("camera", this.host.cameraWidgets());
      this.view.ego.setOutline(this.camera.outline);
      this.host.rememberTurns(this.camera.quarter_turns);
      this.scene.show();
      this.view.draw();
      this.showOtherPath();
    } catch (error) {
      this.tell(error.message);
    }
  }

  showBanner() {
    const source = this.host.source();
    const parts = [];
    if (this.fault) parts.push(this.say("badText", { reason: this.fault }));
    if (source !== "keyframes") {
      parts.push(this.say("foreign", { source }));
      if (this.otherPath())
        parts.push(button("egox-take-over", this.say("takeOver"), this.say("takeOver"), () => this.takeOver()));
    } else if (this.host.isExample() && this.scene.known && !this.fault) parts.push(this.say("start"));
    if (this.host.isLinked("base")) parts.push(this.say("baseNote"));
    if (this.host.smoothing() > 0) parts.push(this.say("smoothNote", { seconds: this.host.smoothing() }));
    this.banner.hidden = !parts.length;
    this.banner.replaceChildren(...parts.map((part) => (typeof part === "string" ? make("span", "", {}, part) : part)));
  }

  // Where else the node has its path from: the last run's path, a file of the host's, or one standing pose.
  otherPath() {
    if (this.data?.path?.length === this.state.clip.count) return { poses: this.data.path };
    if (this.host.source() === "file" && this.host.file()) return { file: this.host.file(), entry: this.host.entry() };
    return this.host.source() === "constant" ? { still: this.host.constant() } : null;
  }

  takeOver() {
    const { still, ...other } = this.otherPath();
    if (!still) return this.files.take(other);
    const [x, y, z, yaw, pitch, roll] = still;
    this.state.replace(stillDocument(fromAngles([x, y, z], yaw, pitch, roll), this.state.clip));
  }

  // -- changes

  follow(kind) {
    if (this.closed) return;
    const { state, view } = this;
    const pose = state.poseAt();
    if (kind !== "frame") {
      this.poses = Array.from({ length: state.clip.count }, (_, frame) => state.poseAt(frame));
      view.path.set(
        this.poses,
        state.content.keys.map((key) => key.pose),
      );
      view.setUp(state.content.up);
    }
    view.setPose(pose);
    this.side.show(pose, state.frame);
    this.exo.show(state.frame, this.poses, pose);
    if (kind === "frame" || kind === "clip") this.scene.showMoving();
    this.undoButton.disabled = !state.undoable.length;
    this.redoButton.disabled = !state.redoable.length;
    if (kind === "commit") {
      this.fault = null;
      this.host.write(state.text);
      view.ghost.object.visible = false;
      this.showBanner();
    }
  }

  takeDocument(content) {
    this.state.replace(parseDocument(content, this.state.clip, this.camera?.quarter_turns ?? 0));
  }

  placeAt(point) {
    this.state.setPose({ ...this.state.poseAt(), position: point });
    this.view.showMark(point);
  }

  aimAt(point) {
    const pose = lookAt(this.state.poseAt().position, point, this.state.content.up);
    if (pose) this.state.setPose(pose);
    this.view.showMark(point);
  }

  chooseTool(tool) {
    this.view.setTool(tool);
    for (const [name, element] of Object.entries(this.tools)) {
      element.classList.toggle("egox-ed-on", name === tool);
      element.setAttribute("aria-pressed", String(name === tool));
    }
    this.hint.textContent = this.say(HINTS[tool]);
  }

  frameAll() {
    if (this.view.tool === "look") this.chooseTool("move");
    this.view.frameAll(this.data?.scene?.exo_from_scene?.[0]);
  }

  // What the server needs to read or write a path.
  context() {
    const { clip, content, text } = this.state;
    return {
      camera: this.camera?.camera,
      indices: clip.indices,
      times_s: clip.times,
      token: this.scene.token,
      up: content.up,
      prompt: this.data?.prompt ?? "",
      document: JSON.parse(text),
    };
  }

  tell(text) {
    this.status.textContent = text;
    this.status.title = text;
  }

  close() {
    if (this.closed) return;
    this.state.end();
    this.closed = true;
    window.removeEventListener("keydown", this.strayKey, true);
    for (const part of [this.view, this.timeline, this.side, this.exo]) part.close();
    this.back.remove();
    this.host.onClose();
  }
}

function clockOf(data) {
  return data ? new FrameClock(data.indices, data.times_s) : FrameClock.standard();
}
