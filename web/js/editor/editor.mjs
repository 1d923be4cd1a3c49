// The editor: its parts put together over the page, and what one tells the other.
import { DocumentError, parseDocument, writeDocument } from "./model/document.mjs";
import { FrameClock } from "./model/frame_clock.mjs";
import { fromW2c } from "./model/pose.mjs";
import { EditorState } from "./model/state.mjs";
import { button } from "./view/elements.mjs";
import { ExoView } from "./view/exo_view.mjs";
import { Fields } from "./view/fields.mjs";
import { Files } from "./view/files.mjs";
import { Layout } from "./view/layout.mjs";
import { ScenePart } from "./view/scene_part.mjs";
import { SceneView } from "./view/scene_view.mjs";
import { handleKey } from "./view/shortcuts.mjs";
import { SideView } from "./view/side_view.mjs";
import { addStyle } from "./view/style.mjs";
import { Timeline } from "./view/timeline.mjs";
import { onTheme } from "../theme.mjs";

const LOOK_FRAMES = [1 / 2, 1 / 6, 5 / 6]; // shares of the clip

export class PoseEditor {
  // host: what the node and the page offer, see node_widget.mjs; lens: the row of the exo lens
  constructor(host, server, say, lens) {
    addStyle();
    const data = host.data();
    const clip = clockOf(data);
    this.host = host;
    this.server = server;
    this.say = say;
    this.data = null; // what the node told of its run
    this.camera = null; // the ego camera, as the server answered
    this.fault = null; // why the node's text can't be read
    this.own = null; // the node's keyframes, while its path comes from elsewhere
    this.poses = []; // of every frame
    this.shown = false; // the document is a path from elsewhere that nobody has changed yet
    this.toldLone = false; // that the only key holds for all frames
    this.closed = false;
    this.state = new EditorState(this.readDocument(clip), clip);
    this.timeline = new Timeline(this.state, say, () => this.newPath());
    this.fields = new Fields(this.state, say);
    this.files = this.makeFiles();
    this.side = new SideView(server, say, () => this.scene.forget());
    this.exo = new ExoView(server, say, lens, {
      onPlace: (point) => this.placeAt(point),
      onAim: (point) => this.aimAt(point),
      onLook: (point) => this.lookAt(point),
      onLookTool: () => this.chooseTool("aim"),
      onFrame: (frame) => this.state.setFrame(frame),
      onStep: () => this.showBanner(),
      onGone: () => this.scene.forget(),
    });
    this.wishes = this.makeWishes();
    const { state, timeline, fields, files, side, exo } = this;
    this.layout = new Layout(say, { timeline, fields, files, side, exo }, this.wishes);
    document.body.append(this.layout.back);
    this.view = this.makeView();
    this.scene = new ScenePart(
      { host, server, say, state },
      { layout: this.layout, view: this.view, side, exo },
      {
        onPoints: () => this.frameAll(),
        onFetched: () => this.follow("frame"),
        onTrust: (trusted) => this.setTrust(trusted),
        onRun: () => this.showBanner(),
        isHeadless: () => this.isHeadless,
      },
    );
    // A button that is switched off while it has the focus loses it to the page: its keys must not
    // reach the graph.
    this.strayKey = (event) => {
      if (this.layout.back.contains(event.target)) return;
      event.stopImmediatePropagation();
      this.layout.root.focus();
      this.wishes.onKey(event);
    };
    this.layout.root.focus();
    window.addEventListener("keydown", this.strayKey, true);
    this.state.on((kind) => this.follow(kind));
    this.chooseTool("move");
    this.followTheme();
    this.theming = onTheme(() => this.followTheme());
    this.setData(data);
    this.askCamera();
  }

  followTheme() {
    this.view.setTheme(this.layout.light ? "#e6e8eb" : "#15171a");
    this.timeline.draw();
  }

  // Nobody has placed a head yet, and the node has none from elsewhere.
  get isHeadless() {
    return this.host.source() === "keyframes" && this.host.isExample();
  }

  readDocument(clip) {
    const { text } = this.host;
    try {
      const content = parseDocument(text(), clip, this.host.quarterTurns());
      // The example shows how to write keyframes, nobody wants it in a path of their own; and where
      // the node takes its path from elsewhere, that one is to be seen and edited.
      if (!this.host.isExample() && this.host.source() === "keyframes") return content;
      this.own = this.host.isExample() ? null : content;
      return { ...content, keys: [], looks: [] };
    } catch (error) {
      if (!(error instanceof DocumentError)) throw error;
      this.fault = error.message;
      return parseDocument([], clip);
    }
  }

  makeFiles() {
    return new Files(
      this.server,
      this.say,
      () => this.context(),
      (content) => this.takeDocument(content),
      (text) => this.layout.tell(text),
    );
  }

  // What the toolbar, the head and the keys ask for.
  makeWishes() {
    const { state, timeline, exo, host } = this;
    const renderPrior = () => {
      this.close();
      host.runPrior();
    };
    return {
      onTool: (tool) => this.chooseTool(tool),
      onFrameAll: () => this.frameAll(),
      onMoving: () => this.scene.showMoving(),
      onUndo: () => state.undo(),
      onRedo: () => state.redo(),
      onLoad: () => this.scene.load(),
      onNewPath: () => this.newPath(),
      onHelp: () => this.layout.switchText(this.say("keys")),
      onPrior: host.runPrior && renderPrior,
      onClose: () => this.close(),
      onKey: (event) => {
        const { view, layout } = this;
        handleKey(event, { state, timeline, view, exo, layout }, this.wishes);
      },
    };
  }

  makeView() {
    const { state } = this;
    return new SceneView(this.layout.canvas, {
      onGrab: () => state.begin(),
      onPose: (pose) => state.setPose(pose),
      onRelease: () => state.end(),
      onPick: (point, tool) => (tool === "snap" ? this.placeAt(point) : this.lookAt(point)),
    });
  }

  // -- what the node told of its run

  setData(data) {
    this.data = data;
    if (data) this.state.setClip(clockOf(data));
    if (data?.scene) {
      this.state.setRest(fromW2c(data.scene.rest));
      const written = this.host.writtenIn(); // undefined: the text is older than this note
      this.state.learnUp(
        data.scene.up,
        this.shown || (written !== undefined && written !== data.origin?.scene),
      );
    }
    this.fields.showDoubt(data?.scene ?? undefined);
    this.scene.set(data);
    this.showGhost();
    this.showBanner();
    this.follow("clip");
  }

  // The path that the node has from elsewhere, as the last run gave it.
  showGhost() {
    const { data } = this;
    const other = data?.path && this.scene.trusted && this.host.source() !== "keyframes";
    this.view.ghost.object.visible = Boolean(other);
    const poses = other ? data.path.map((w2c) => fromW2c(w2c)) : [];
    this.view.ghost.set(poses, []);
    this.view.draw();
  }

  // Whether the scene is that of the graph as it is now: in another one no click counts.
  setTrust(trusted) {
    this.exo.trust(trusted);
    if (trusted && this.isHeadless) this.exo.begin("place");
    if (!trusted && ["snap", "aim"].includes(this.view.tool)) this.chooseTool("move");
    for (const tool of ["snap", "aim"])
      this.layout.tools[tool].disabled = Boolean(this.data?.scene) && !trusted;
    this.showGhost();
    this.showBanner();
    this.showOtherPath();
  }

  // Where the node doesn't run by keyframes, the editor begins with the path that it has from
  // elsewhere.
  async showOtherPath() {
    const { data, host, state } = this;
    const wanted = host.source() !== "keyframes" && data?.path?.length === state.clip.count;
    if (!wanted || !this.camera || !this.scene.trusted || state.undoable.length) return;
    try {
      const body = { ...this.context(), up: data.scene?.up ?? state.content.up, poses: data.path };
      const { document: content } = await this.server.json("import", body);
      const nothingDone = !state.undoable.length && state.start === null;
      if (this.closed || !nothingDone || data !== this.data) return;
      this.shown = true;
      state.show(parseDocument(content, state.clip, this.camera.quarter_turns));
      this.timeline.showGuessed(data.guessed);
      const estimated = data.guessed.length || host.source() === "estimated";
      if (estimated && data.scene && !state.frame) this.startLooking();
      this.showBanner();
    } catch (error) {
      this.scene.failed(error);
    }
  }

  // The first thing to do with an estimate: say what the wearer looks at, in the large exo frame.
  startLooking() {
    this.layout.root.classList.add("egox-ed-large");
    this.chooseTool("aim");
    this.state.setFrame(this.nextLook());
    this.layout.tell(this.say("clickLook"));
  }

  // The frame in which one more point helps most; null where there are enough.
  nextLook() {
    const { state } = this;
    const last = state.clip.count - 1;
    const frames = state.content.looks.map((_, i) => state.frameOfKey(i, "looks"));
    const far = (frame) => frames.every((other) => Math.abs(other - frame) > last / 8);
    return LOOK_FRAMES.map((share) => Math.round(share * last)).find(far) ?? null;
  }

  async askCamera() {
    try {
      this.camera = await this.server.json("camera", { camera: this.host.camera() });
      this.view.ego.setOutline(this.camera.outline);
      this.host.rememberTurns(this.camera.quarter_turns);
      this.scene.setCamera(this.camera);
      this.view.draw();
      this.showOtherPath();
    } catch (error) {
      this.layout.tell(error.message);
    }
  }

  showBanner() {
    const source = this.host.source();
    const lines = [];
    if (this.scene.stale) {
      const load = button("egox-load-stale", this.say("load"), this.say("emptyRun"), () =>
        this.scene.load(),
      );
      return this.layout.showBanner([this.say(this.scene.running ? "running" : "stale"), load]);
    }
    if (this.fault) lines.push(this.say("badText", { reason: this.fault }));
    if (source !== "keyframes") {
      // What is loaded by itself needs no press.
      if (this.shown || (this.scene.compared && !this.scene.running))
        lines.push(this.say(this.shown ? "foreign" : "foreignUnseen", { source }));
      if (this.otherPath())
        lines.push(
          button("egox-take-over", this.say("takeOver"), this.say("takeOver"), () =>
            this.files.take(this.otherPath()),
          ),
        );
      if (this.own)
        lines.push(
          button("egox-own", this.say("own"), this.say("own"), () => this.state.change(this.own)),
        );
    } else if (this.nextStep && !this.fault) lines.push(this.say(this.nextStep));
    if (this.host.isLinked("base")) lines.push(this.say("baseNote"));
    this.layout.showBanner(lines);
  }

  // What a path that is placed by clicks lacks, as the name of a text.
  get nextStep() {
    if (!this.scene.known) return null;
    if (this.exo.step === "aim") return "clickTarget";
    return this.isHeadless || this.isEmpty ? "start" : null;
  }

  get isEmpty() {
    const { keys, looks } = this.state.content;
    return !keys.length && !looks.length;
  }

  // Where else the node has its path from: the last run's path, or a file of the host's.
  otherPath() {
    if (this.scene.trusted && this.data?.path?.length === this.state.clip.count)
      return { poses: this.data.path };
    if (this.host.source() === "file" && this.host.file())
      return { file: this.host.file(), entry: this.host.entry() };
    return null;
  }

  // Another field of view: the node has moved its keyframes, the scene is made anew.
  async takeLens() {
    if (this.host.source() === "keyframes" && !this.host.isExample())
      this.state.change(this.readDocument(this.state.clip));
    await this.scene.compare();
    if (!this.closed && !this.scene.running) this.scene.load();
  }

  // -- changes

  follow(kind) {
    if (this.closed) return;
    const { state, view } = this;
    const pose = state.poseAt();
    if (kind === "content") view.showMark(null); // a click's mark ends with what it changed
    if (kind !== "frame") {
      this.poses = Array.from({ length: state.clip.count }, (_, frame) => state.poseAt(frame));
      view.path.set(
        this.poses,
        state.content.keys.map((key) => key.pose),
        state.content.looks.flatMap(({ moment, point }) => [
          state.track.at(moment).position,
          point,
        ]),
      );
      view.setUp(state.content.up);
    }
    view.setPose(pose);
    this.side.show(pose, state.frame);
    this.exo.show(
      state.frame,
      this.poses,
      pose,
      state.content.looks[state.keyAt(state.frame, "looks")]?.point,
    );
    if (kind === "frame" || kind === "clip") this.scene.showMoving();
    this.layout.showSteps(state.undoable, state.redoable);
    if (kind === "commit") {
      this.fault = null;
      this.shown = false;
      this.host.write(this.textOf(), this.data?.origin?.scene ?? "");
      view.ghost.object.visible = false;
      if (this.isEmpty) this.exo.begin("place");
      this.showBanner();
      this.tellOfLoneKey();
    }
  }

  // One key holds for the whole clip: right for a person who stands.
  tellOfLoneKey() {
    const { content, clip } = this.state;
    const isAiming = this.exo.step === "aim"; // the next click is what counts now
    const lone = content.keys.length === 1 && clip.count > 1 && !isAiming;
    if (lone) {
      const canFollow = this.host.canEstimate();
      const follow = button("egox-follow", this.say("follow"), this.say("followHelp"), () =>
        this.followHead(),
      );
      const said = this.say(canFollow ? "loneKeyEstimated" : "loneKey", { count: clip.count });
      this.layout.tell(said, ...(canFollow ? [follow] : []));
    } else if (this.toldLone) this.layout.tell("");
    this.toldLone = lone;
  }

  // The graph's estimate takes the place of the keyframes, which stay for whoever wants them back.
  followHead() {
    const { host, state, scene } = this;
    this.own = state.content;
    this.toldLone = false;
    host.useEstimate();
    Object.assign(state, { undoable: [], redoable: [] });
    state.show({ ...state.content, keys: [], looks: [] });
    this.layout.showSteps(state.undoable, state.redoable);
    this.showBanner();
    scene.load();
  }

  // The document with the video that it is made on.
  textOf() {
    return writeDocument({ ...this.state.content, madeOn: this.host.video() ?? undefined });
  }

  takeDocument(content) {
    this.state.change(parseDocument(content, this.state.clip, this.camera?.quarter_turns ?? 0));
  }

  placeAt(point) {
    this.state.setPose({ ...this.state.poseAt(), position: point });
    this.view.showMark(point);
  }

  aimAt(point) {
    this.state.setLook(point);
    this.view.showMark(point);
  }

  lookAt(point) {
    this.state.setLook(point);
    this.view.showMark(point);
    this.exo.propose(this.nextLook());
  }

  // A path from nothing: the first click makes its only keyframe.
  newPath() {
    const { state } = this;
    const up = this.data?.scene?.up ?? state.content.up;
    if (state.content.keys.length) state.change(parseDocument({ up, keyframes: [] }, state.clip));
    this.exo.begin("place");
  }

  chooseTool(wanted) {
    // pressed again it is left
    const tool = wanted === "look" && this.view.tool === "look" ? "move" : wanted;
    if (this.layout.tools[tool].disabled) return;
    this.view.setTool(tool);
    this.layout.showTool(tool);
    this.side.showSeen(tool === "look");
    if (tool === "aim") this.exo.begin("look");
    else if (this.exo.step === "look") this.exo.begin(null);
  }

  frameAll() {
    if (this.view.tool === "look") this.chooseTool("move");
    this.view.frameAll();
  }

  // What the server needs to read or write a path.
  context() {
    const { clip, content } = this.state;
    return {
      camera: this.camera?.camera,
      indices: clip.indices,
      times_s: clip.times,
      source_frames: this.data?.source_frames ?? 0,
      every_nth: this.host.everyNth(),
      file_frames: this.host.fileFrames(),
      token: this.scene.token,
      up: content.up,
      prompt: this.data?.prompt ?? "",
      document: JSON.parse(this.textOf()),
    };
  }

  close() {
    if (this.closed) return;
    this.state.end();
    this.closed = true;
    window.removeEventListener("keydown", this.strayKey, true);
    this.theming.disconnect();
    for (const part of [this.view, this.scene, this.timeline, this.side, this.exo]) part.close();
    this.layout.back.remove();
    this.host.onClose();
  }
}

function clockOf(data) {
  return data ? new FrameClock(data.indices, data.times_s) : FrameClock.standard();
}
