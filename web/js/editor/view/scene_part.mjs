// The scene of the node's last run: fetched from the server, shown, and asked for again where the server let it go.
import { SceneGone } from "../server.mjs";
import { button, make } from "./elements.mjs";

export class ScenePart {
  constructor(editor) {
    this.editor = editor;
    this.known = null; // what the node told of it
    this.gone = false;
    this.running = false;
  }

  set(known) {
    const { editor } = this;
    const before = this.known?.token;
    this.known = known;
    this.running = false;
    editor.exo.setScene(known);
    editor.view.exo.object.visible = known !== null;
    if (known && (known.token !== before || this.gone)) this.fetch();
    else this.show();
  }

  get token() {
    return this.gone ? undefined : this.known?.token;
  }

  // The side view needs the camera, too; without a scene the middle of the view says what to do.
  show() {
    const { editor, known } = this;
    const ready = known && editor.camera && !this.gone;
    editor.side.setScene(ready ? { token: known.token, camera: editor.camera.camera, frames: known.frames } : null);
    this.showEmpty();
  }

  async fetch() {
    const { editor, known } = this;
    const { view, server, say } = editor;
    this.gone = false;
    this.movingFrame = null;
    editor.tell(say("loading"));
    try {
      view.cloud.set("static", await server.cloud({ token: known.token, part: "static" }));
      if (editor.closed) return;
      view.exo.set(known.exo_from_scene[0], known.exo_camera);
      editor.frameAll();
      editor.tell(known.whole ? known.notes.join(" ") : say("notWhole"));
    } catch (error) {
      this.failed(error);
    }
    this.show();
    editor.follow("frame");
  }

  async showMoving() {
    const { editor, known } = this;
    const { cloud } = editor.view;
    const { frame } = editor.state;
    const on = editor.movingPoints.checked;
    cloud.showMoving(on);
    editor.view.draw();
    if (!known || this.gone || !on || this.movingFrame === frame || this.movingAsked) return;
    this.movingAsked = true;
    try {
      const body = { token: known.token, part: "moving", frame: Math.min(frame, known.frames - 1) };
      cloud.set("moving", await editor.server.cloud(body));
      this.movingFrame = frame;
    } catch (error) {
      this.failed(error);
    }
    this.movingAsked = false;
    if (editor.closed) return;
    editor.view.draw();
    if (editor.state.frame !== frame) this.showMoving(); // the frame went on meanwhile
  }

  failed(error) {
    if (this.editor.closed) return;
    if (error instanceof SceneGone) this.isGone();
    else this.editor.tell(error.message);
  }

  // The server no longer has it: only a run brings it back, and that run may not come from the host's cache.
  isGone() {
    const { editor } = this;
    if (this.gone || editor.closed) return;
    this.gone = true;
    editor.tell("");
    editor.view.cloud.clear();
    editor.exo.setScene(null);
    this.show();
    editor.view.draw();
    editor.server.json("renew", { node: editor.host.nodeId() }).catch((error) => editor.tell(error.message));
  }

  async load() {
    const { editor } = this;
    this.running = true;
    this.showEmpty();
    editor.tell(editor.say("running"));
    const failure = await editor.host.run();
    this.running = false;
    if (editor.closed) return;
    editor.tell(failure ? editor.say("runFailed", { reason: failure }) : "");
    this.showEmpty();
  }

  showEmpty() {
    const { empty, host, say } = this.editor;
    empty.hidden = Boolean(this.known) && !this.gone;
    if (empty.hidden) return;
    const linked = host.isLinked("scene");
    const words = this.running ? "running" : this.gone ? "gone" : linked ? "emptyRun" : "emptyConnect";
    empty.replaceChildren(make("b", "", {}, say("emptyTitle")), make("p", "", {}, say(words)));
    if (linked && !this.running)
      empty.append(button("egox-load-empty", say("load"), say("emptyRun"), () => this.load()));
  }
}
