// The scene of the node's last run: fetched from the server, shown, and asked for again where the
// server let it go.
import { SceneGone } from "../server.mjs";
import { button, make } from "./elements.mjs";

export class ScenePart {
  // parts: those that show it, { layout, view, side, exo }.
  // wishes: { onPoints(): the cloud is there; onFetched(): all of it is, or it failed;
  // onTrust(trusted): whether it is the scene of the graph as it is now, onRun(): its run begins or
  // ends, isHeadless(): nobody has placed a head }
  constructor({ host, server, say, state }, { layout, view, side, exo }, wishes) {
    Object.assign(this, { host, server, say, state, layout, view, side, exo, wishes });
    this.known = null; // what the node told of it
    this.origin = null; // what it was made from, as the run told
    this.trusted = false; // it is made from what the graph holds now
    this.stale = false; // it is not; neither: not known yet
    this.compared = false; // with the graph, at least once
    this.fileMissing = false; // the graph wants the path from a file that isn't there
    this.camera = null; // the ego camera, as the server answered
    this.gone = false;
    this.running = false;
    this.begun = false; // by itself, which it does once
    this.movingFrame = null; // the frame whose moving points are shown
    this.movingAsked = false;
    this.closed = false;
  }

  // data: what the node told of its run, or null
  set(data) {
    const before = this.known?.token;
    const known = data?.scene ?? null;
    this.known = known;
    this.origin = data?.origin ?? null;
    this.running = false;
    this.exo.setScene(known);
    this.view.exo.object.visible = known !== null;
    if (known && (known.token !== before || this.gone)) this.fetch();
    else this.show();
    if (known?.token !== before) this.trust(false, false);
    this.compare();
  }

  trust(trusted, stale) {
    this.trusted = trusted;
    this.stale = stale;
    this.wishes.onTrust(trusted);
  }

  // The scene is of the node's last run: has the graph another video, depth or path since?
  async compare() {
    const { known, origin } = this;
    let answer = null;
    try {
      const asked = await this.host.graph();
      if (asked) this.side.showMoving(drawsMoving(asked.graph));
      answer = asked && (await this.server.json("origin", asked));
    } catch {
      // a graph that can't be sent can't be compared; a run will say what is wrong with it
    }
    if (this.closed || known !== this.known || origin !== this.origin) return;
    this.compared = true;
    this.fileMissing = answer?.file_missing ?? false;
    const now = answer?.origin;
    const ownPath = this.host.source() === "keyframes"; // then the file's counts no more
    const same =
      !known ||
      !now ||
      !origin ||
      (now.scene === origin.scene && (ownPath || now.path === origin.path));
    this.trust(same, !same);
    // No head from anywhere: the scene is the first thing that is wanted.
    const wanted = this.fileMissing || this.wishes.isHeadless();
    if (this.begun || !wanted || (known && same) || this.running || !this.host.isLinked("scene"))
      return;
    this.begun = true;
    this.load();
  }

  setCamera(camera) {
    this.camera = camera;
    this.show();
  }

  get token() {
    return this.gone ? undefined : this.known?.token;
  }

  // The side view needs the camera, too; without a scene the middle of the view says what to do.
  show() {
    const { known, camera } = this;
    const ready = known && camera && !this.gone;
    this.side.setScene(
      ready ? { token: known.token, camera: camera.camera, frames: known.frames } : null,
    );
    this.showEmpty();
  }

  async fetch() {
    const { known, layout, view, say } = this;
    this.gone = false;
    this.movingFrame = null;
    layout.tell(say("loading"));
    try {
      view.cloud.set("static", await this.server.cloud({ token: known.token, part: "static" }));
      if (this.closed) return;
      view.exo.set(known.exo_from_scene[0], known.exo_camera);
      this.wishes.onPoints();
      layout.tell(known.whole ? known.notes.join(" ") : say("notWhole"));
    } catch (error) {
      this.failed(error);
    }
    this.show();
    this.wishes.onFetched();
  }

  async showMoving() {
    const { known, view } = this;
    const { frame } = this.state;
    const on = this.layout.movingPoints.checked;
    view.cloud.showMoving(on);
    view.draw();
    if (!known || this.gone || !on || this.movingFrame === frame || this.movingAsked) return;
    this.movingAsked = true;
    try {
      const body = { token: known.token, part: "moving", frame: Math.min(frame, known.frames - 1) };
      view.cloud.set("moving", await this.server.cloud(body));
      this.movingFrame = frame;
    } catch (error) {
      this.failed(error);
    }
    this.movingAsked = false;
    if (this.closed) return;
    view.draw();
    if (this.state.frame !== frame) this.showMoving(); // the frame went on meanwhile
  }

  failed(error) {
    if (this.closed) return;
    if (error instanceof SceneGone) this.forget();
    else this.layout.tell(error.message);
  }

  // The server no longer has it: only a run brings it back, and that run may not come from the
  // host's cache.
  forget() {
    if (this.gone || this.closed) return;
    const { layout, view } = this;
    this.gone = true;
    layout.tell("");
    view.cloud.clear();
    this.exo.setScene(null);
    this.show();
    view.draw();
    this.server
      .json("renew", { node: this.host.nodeId() })
      .catch((error) => layout.tell(error.message));
  }

  async load() {
    const { layout, say } = this;
    if (this.running) return this.host.cancel();
    this.running = true;
    this.showEmpty();
    layout.tell(say("running"));
    // Without that file there is no run, and so no scene to make a path in.
    if (this.fileMissing) this.host.useKeyframes();
    this.wishes.onRun();
    // A result from the host's cache would still tell of the graph that it was made in.
    if (this.stale) await this.server.json("renew", { node: this.host.nodeId() }).catch(() => {});
    const failure = await this.host.run((title, percent) =>
      layout.tell(`${title}: ${percent} %. ${say("runningHelp")}`),
    );
    this.running = false;
    if (this.closed) return;
    const missing = failure && this.host.missing();
    missing?.append(
      button("egox-load-missing", say("load"), say("emptyRun"), () => this.load()),
    );
    const why = missing ? say("filesMissing") : say("runFailed", { reason: failure });
    layout.tell(failure ? why : "");
    this.showEmpty();
    this.wishes.onRun();
  }

  showEmpty() {
    const { say } = this;
    const { empty, hint } = this.layout;
    empty.hidden = Boolean(this.known) && !this.gone;
    hint.hidden = !empty.hidden; // what a tool does comes after the scene
    if (empty.hidden) return;
    const linked = this.host.isLinked("scene");
    const words = this.running
      ? "running"
      : this.gone
        ? "gone"
        : linked
          ? "emptyRun"
          : "emptyConnect";
    empty.replaceChildren(make("b", "", {}, say("emptyTitle")), make("p", "", {}, say(words)));
    if (linked && !this.running)
      empty.append(button("egox-load-empty", say("load"), say("emptyRun"), () => this.load()));
  }

  close() {
    this.closed = true;
  }
}

// Whether the graph's prior has what moves: every preset but the released one does.
export function drawsMoving(graph) {
  const priors = Object.values(graph).filter(
    ({ class_type: kind }) => kind === "EgoXRenderEgoPrior",
  );
  return priors.some(({ inputs: { preset, dynamic } }) => {
    const name = Array.isArray(preset) ? graph[preset[0]]?.inputs.preset : preset;
    return dynamic === "preset" ? name !== "released" : dynamic !== "leave out";
  });
}
