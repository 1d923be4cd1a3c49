// The editor: its parts put together over the page, and what one tells the other.
import { Clip } from "./clip.mjs";
import { DocumentError, parseDocument } from "./document.mjs";
import { EditorState } from "./state.mjs";
import { ExoView } from "./exo_view.mjs";
import { Fields } from "./fields.mjs";
import { Files } from "./files.mjs";
import { SceneGone } from "./server.mjs";
import { SceneView } from "./scene_view.mjs";
import { SideView } from "./side_view.mjs";
import { Timeline } from "./timeline.mjs";
import { addStyle } from "./style.mjs";
import { button, make } from "./elements.mjs";
import { handleKey } from "./shortcuts.mjs";
import { fromW2c, lookAt } from "./pose.mjs";

const TOOLS = ["move", "turn", "look", "snap", "aim"];
const HINTS = { move: "hintOrbit", turn: "hintOrbit", look: "hintLook", snap: "hintSnap", aim: "hintAim" };

export class PoseEditor {
  // host: what the node and the page offer, see node_widget.mjs
  constructor(host, server, say) {
    Object.assign(this, { host, server, say });
    addStyle();
    const data = host.data();
    const clip = clipOf(data);
    this.state = new EditorState(this.readDocument(clip), clip);
    this.build();
    this.state.on((kind) => this.follow(kind));
    this.chooseTool("move");
    this.setTheme();
    this.setData(data);
    this.askCamera();
  }

  readDocument(clip) {
    const { text } = this.host;
    try {
      return parseDocument(text(), clip, this.camera?.quarter_turns ?? this.host.quarterTurns());
    } catch (error) {
      if (!(error instanceof DocumentError)) throw error;
      this.fault = error.message;
      return parseDocument([{ position: [0, 0, 0], yaw_deg: 0 }], clip);
    }
  }

  build() {
    const { say, state } = this;
    const canvas = make("canvas", "", { tabIndex: 0, "data-testid": "egox-view", "aria-label": say("view") });
    this.hint = make("div", "egox-ed-hint", { "data-testid": "egox-hint" });
    this.tools = Object.fromEntries(TOOLS.map((tool) => [tool, button(`egox-tool-${tool}`, say(tool), say(`${tool}Help`), () => this.chooseTool(tool))]));
    this.movingPoints = make("input", "", { type: "checkbox", checked: true, "data-testid": "egox-moving", onchange: () => this.showMoving() });
    this.banner = make("div", "egox-ed-banner", { hidden: true, role: "status", "data-testid": "egox-banner" });
    this.empty = make("div", "egox-ed-empty", { hidden: true, "data-testid": "egox-empty" });
    this.main = make("section", "egox-ed-main", { "aria-label": say("view") }, canvas,
      make("div", "egox-ed-tools", { role: "toolbar" }, ...Object.values(this.tools),
        button("egox-frame-all", say("focus"), say("focusHelp"), () => this.frameAll()),
        make("label", "egox-ed-check", { title: say("movingPointsHelp") }, this.movingPoints, say("movingPoints"))),
      this.hint, this.banner, this.empty);
    this.undoButton = button("egox-undo", "↶", say("undo"), () => state.undo());
    this.redoButton = button("egox-redo", "↷", say("redo"), () => state.redo());
    this.status = make("span", "egox-ed-status", { role: "status", "data-testid": "egox-status" });
    this.files = new Files(this.server, say, () => this.context(), (content) => this.takeDocument(content), (text) => this.tell(text));
    this.timeline = new Timeline(state, say);
    this.fields = new Fields(state, say);
    this.side = new SideView(this.server, say, () => this.sceneGone());
    this.exo = new ExoView(this.server, say, {
      onPlace: (point) => this.placeAt(point), onAim: (point) => this.aimAt(point), onGone: () => this.sceneGone(),
    });
    this.root = make("div", "egox-ed", { tabIndex: -1, role: "dialog", "aria-modal": "true", "aria-label": say("title"), "data-testid": "egox-editor" },
      make("header", "egox-ed-head", {}, make("h2", "", {}, say("title")), this.undoButton, this.redoButton, this.files.element, this.status,
        make("span", "egox-ed-gap"), button("egox-load", say("load"), say("emptyRun"), () => this.load()),
        button("egox-help", "?", say("help"), () => this.tellKeys()), button("egox-close", say("done"), say("close"), () => this.close())),
      this.main, make("aside", "egox-ed-side", {}, this.side.element, this.exo.element),
      make("footer", "egox-ed-foot", {}, this.timeline.element, this.fields.element));
    this.back = make("div", "egox-ed-back", { "data-testid": "egox-editor-back" }, this.root);
    // The page's own shortcuts (and its canvas) must not see what is meant for the editor.
    for (const kind of ["keydown", "keyup", "pointerdown", "pointerup", "wheel", "contextmenu", "copy", "paste", "dragover", "drop"])
      this.back.addEventListener(kind, (event) => event.stopPropagation());
    this.back.addEventListener("contextmenu", (event) => event.preventDefault());
    this.root.addEventListener("keydown", (event) => handleKey(this, event));
    document.body.append(this.back);
    this.view = new SceneView(canvas, {
      onGrab: () => state.begin(), onPose: (pose) => state.setPose(pose), onRelease: () => state.end(),
      onPick: (point, tool) => (tool === "snap" ? this.placeAt(point) : this.aimAt(point)),
    });
    this.root.focus();
  }

  setTheme() {
    const back = getComputedStyle(this.root).backgroundColor.match(/[\d.]+/g)?.map(Number) ?? [0, 0, 0];
    const light = back[0] + back[1] + back[2] > 380;
    this.view.setTheme(light ? "#e6e8eb" : "#15171a");
  }

  // -- what the node told of its run

  setData(data) {
    const before = this.data?.scene?.token;
    this.data = data;
    this.running = false;
    if (data) this.state.setClip(clipOf(data));
    const scene = data?.scene ?? null;
    this.exo.setScene(scene);
    this.view.exo.object.visible = scene !== null;
    if (data?.up && this.fault) this.state.content = { ...this.state.content, up: data.up };
    const ghost = data?.path && this.host.source() !== "keyframes";
    this.view.ghost.object.visible = Boolean(ghost);
    if (ghost) this.view.ghost.set(data.path.map((w2c) => fromW2c(w2c)), []);
    if (scene && scene.token !== before) this.loadCloud();
    else this.showScene();
    this.showBanner();
    this.follow("clip");
  }

  async askCamera() {
    try {
      this.camera = await this.server.json("camera", this.host.cameraWidgets());
      this.view.ego.setOutline(this.camera.outline);
      this.host.rememberTurns(this.camera.quarter_turns);
      this.showScene();
      this.view.draw();
    } catch (error) {
      this.tell(error.message);
    }
  }

  showScene() {
    const scene = this.data?.scene ?? null;
    const ready = scene && this.camera && !this.gone;
    this.side.setScene(ready ? { token: scene.token, camera: this.camera.camera, frames: scene.frames } : null);
    this.showEmpty();
  }

  async loadCloud() {
    const { scene } = this.data;
    this.gone = false;
    this.movingFrame = null;
    this.tell(this.say("loading"));
    try {
      this.view.cloud.set("static", await this.server.cloud({ token: scene.token, part: "static" }));
      this.view.exo.set(scene.exo_from_scene[0], scene.exo_camera);
      this.frameAll();
      this.tell(scene.whole ? scene.notes.join(" ") : this.say("notWhole"));
    } catch (error) {
      this.failed(error);
    }
    this.showScene();
    this.follow("frame");
  }

  async showMoving() {
    const { cloud } = this.view;
    cloud.showMoving(this.movingPoints.checked);
    this.view.draw();
    const scene = this.data?.scene;
    const { frame } = this.state;
    if (!scene || this.gone || !this.movingPoints.checked || this.movingFrame === frame || this.movingAsked) return;
    this.movingAsked = true;
    try {
      cloud.set("moving", await this.server.cloud({ token: scene.token, part: "moving", frame: Math.min(frame, scene.frames - 1) }));
      this.movingFrame = frame;
    } catch (error) {
      this.failed(error);
    }
    this.movingAsked = false;
    this.view.draw();
    if (this.state.frame !== frame && !this.closed) this.showMoving();
  }

  failed(error) {
    if (error instanceof SceneGone) this.sceneGone();
    else this.tell(error.message);
  }

  // The server no longer has it: only a run brings it back, and that run may not come from the host's cache.
  sceneGone() {
    if (this.gone) return;
    this.gone = true;
    this.view.cloud.clear();
    this.exo.setScene(null);
    this.showScene();
    this.server.json("renew", { node: this.host.nodeId() }).catch((error) => this.tell(error.message));
  }

  async load() {
    this.running = true;
    this.showEmpty();
    this.tell(this.say("running"));
    const failure = await this.host.run();
    this.running = false;
    if (failure) this.tell(this.say("runFailed", { reason: failure }));
    else this.tell("");
    if (!this.closed) this.showEmpty();
  }

  showEmpty() {
    const scene = this.data?.scene;
    this.empty.hidden = Boolean(scene) && !this.gone;
    if (this.empty.hidden) return;
    const linked = this.host.isLinked("scene");
    const words = this.running ? "running" : this.gone ? "gone" : linked ? "emptyRun" : "emptyConnect";
    this.empty.replaceChildren(make("b", "", {}, this.say("emptyTitle")), make("p", "", {}, this.say(words)));
    if (linked && !this.running) this.empty.append(button("egox-load-empty", this.say("load"), this.say("emptyRun"), () => this.load()));
  }

  showBanner() {
    const source = this.host.source();
    const parts = [];
    if (this.fault) parts.push(this.say("badText", { reason: this.fault }));
    if (source !== "keyframes" && !this.data?.path) parts.push(this.say("foreign", { source }));
    if (source !== "keyframes" && this.data?.path) {
      parts.push(this.say("foreign", { source }));
      parts.push(button("egox-take-over", this.say("takeOver"), this.say("takeOver"), () => this.files.take({ poses: this.data.path })));
    }
    if (this.host.isLinked("base")) parts.push(this.say("baseNote"));
    if (this.host.smoothing() > 0) parts.push(this.say("smoothNote", { seconds: this.host.smoothing() }));
    this.banner.hidden = !parts.length;
    this.banner.replaceChildren(...parts.map((part) => (typeof part === "string" ? make("span", "", {}, part) : part)));
  }

  // -- changes

  follow(kind) {
    if (this.closed) return;
    const { state, view } = this;
    const pose = state.poseAt();
    if (kind !== "frame") {
      this.poses = Array.from({ length: state.clip.count }, (_, frame) => state.poseAt(frame));
      view.path.set(this.poses, state.content.keys.map((key) => key.pose));
      view.setUp(state.content.up);
    }
    view.setPose(pose);
    this.side.show(pose, state.frame);
    this.exo.show(state.frame, this.poses, pose);
    if (kind === "frame" || kind === "clip") this.showMoving();
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
    const token = this.gone ? undefined : this.data?.scene?.token;
    return { camera: this.camera?.camera, indices: clip.indices, times_s: clip.times, token, up: this.data?.up ?? content.up,
             prompt: this.data?.prompt ?? "", document: JSON.parse(text) };
  }

  tell(text) {
    this.status.textContent = text;
    this.status.title = text;
  }

  tellKeys() {
    this.tell(this.say("keys"));
  }

  close() {
    if (this.closed) return;
    this.state.end();
    this.closed = true;
    for (const part of [this.view, this.timeline, this.side, this.exo]) part.close();
    this.back.remove();
    this.host.onClose();
  }
}

function clipOf(data) {
  return data ? new Clip(data.indices, data.times_s) : Clip.standard();
}
