// The coarse prior of the current pose, live: the server draws one pose at a time, and only the newest wish counts.
import { LatestOnly, SceneGone } from "../server.mjs";
import { make } from "./elements.mjs";
import { toW2c } from "../model/pose.mjs";

export const SIZE = 224;
const RATE_OF = 12; // frames that the shown rate is taken over

export class SideView {
  constructor(server, say, onGone) {
    this.server = server;
    this.say = say;
    this.canvas = make("canvas", "egox-ed-prior", {
      width: SIZE,
      height: SIZE,
      "data-testid": "egox-prior",
      role: "img",
      "aria-label": say("priorLabel"),
    });
    this.message = make("div", "egox-ed-message");
    this.note = make("div", "egox-ed-note", { "data-testid": "egox-prior-note" });
    this.moving = make("input", "", {
      type: "checkbox",
      "data-testid": "egox-prior-moving",
      onchange: () => {
        this.chosen = true;
        this.again();
      },
    });
    this.dense = make("input", "", {
      type: "checkbox",
      "data-testid": "egox-prior-dense",
      onchange: () => this.again(),
    });
    this.element = make(
      "section",
      "egox-ed-panel",
      { "aria-label": say("prior") },
      make(
        "div",
        "egox-ed-panel-head",
        {},
        make("b", "", {}, say("prior")),
        make("span", "egox-ed-gap"),
        make("label", "egox-ed-check", { title: say("denseHelp") }, this.dense, say("dense")),
        make("label", "egox-ed-check", { title: say("movingHelp") }, this.moving, say("moving")),
      ),
      make("div", "egox-ed-picture", {}, this.canvas, this.message),
      this.note,
    );
    this.view = Math.random().toString(36).slice(2);
    this.scene = null; // { token, camera, frames }
    this.wish = null; // { pose, frame }
    this.chosen = false; // somebody has said whether what moves is drawn
    this.count = 0; // of what was asked for
    this.times = []; // when the last pictures came, ms
    this.closed = false;
    this.latest = new LatestOnly((wish) => this.ask(wish));
    this.latest.onError = (error) => {
      if (error instanceof SceneGone) onGone();
      else this.tell(error.message);
    };
    this.tell(say("priorEmpty"));
  }

  // scene: { token, camera, frames } or null
  setScene(scene) {
    this.scene = scene;
    if (!scene) this.tell(this.say("priorEmpty"));
    this.again();
  }

  // As the graph's prior is drawn, until somebody says otherwise.
  showMoving(on) {
    if (this.chosen || this.moving.checked === on) return;
    this.moving.checked = on;
    this.again();
  }

  show(pose, frame) {
    this.wish = { pose, frame };
    this.again();
  }

  again() {
    if (this.scene && this.wish) this.latest.want(this.wish);
  }

  async ask({ pose, frame }) {
    if (!this.scene || this.closed) return;
    const { token, camera, frames } = this.scene;
    const picture = await this.server.picture("prior", {
      token,
      camera,
      w2c: toW2c(pose),
      frame: Math.min(frame, frames - 1),
      size: SIZE,
      moving: this.moving.checked,
      dense: this.dense.checked,
      view: this.view,
      count: ++this.count,
    });
    if (!picture || this.closed) return;
    const image = await createImageBitmap(picture.blob);
    this.canvas.getContext("2d").drawImage(image, 0, 0);
    image.close();
    this.message.hidden = true;
    this.times.push(performance.now());
    if (this.times.length > RATE_OF) this.times.shift();
    this.canvas.dataset.count = this.count;
    this.note.textContent = this.say(picture.coverage > 0 ? "covered" : "coveredNone", {
      percent: Math.round(100 * picture.coverage),
    });
  }

  // Pictures a second lately; 0 where too few or long ago.
  get rate() {
    const { times } = this;
    return times.length > 2 ? ((times.length - 1) * 1000) / (times.at(-1) - times[0]) : 0;
  }

  tell(text) {
    this.message.hidden = false;
    this.message.textContent = text;
  }

  close() {
    this.closed = true;
  }
}
