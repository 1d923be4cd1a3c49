// The coarse prior of the current pose, live: the server draws one pose at a time, and only the
// newest wish counts.
import { checkbox, make, rewrite } from "./elements.mjs";
import { PicturePanel } from "./picture_panel.mjs";
import { toW2c } from "../model/pose.mjs";

export const SIZE = 224;

export class SideView extends PicturePanel {
  constructor(server, say, onGone) {
    super(server, say, "prior", [SIZE, SIZE], (wish) => this.ask(wish), onGone);
    const dense = checkbox("egox-prior-dense", say("dense"), say("denseHelp"), () => this.again());
    const moving = checkbox("egox-prior-moving", say("moving"), say("movingHelp"), () => {
      this.chosen = true;
      this.again();
    });
    const seen = checkbox("egox-prior-seen", say("seen"), say("seenHelp"), () => this.again());
    [this.dense, this.moving, this.seen] = [dense.box, moving.box, seen.box];
    this.head.append(make("span", "egox-ed-gap"), seen.element, dense.element, moving.element);
    this.view = Math.random().toString(36).slice(2);
    this.scene = null; // { token, camera, frames }
    this.wish = null; // { pose, frame }
    this.chosen = false; // somebody has said whether what moves is drawn
    this.count = 0; // of what was asked for
  }

  // scene: { token, camera, frames } or null
  setScene(scene) {
    this.scene = scene;
    if (!scene) this.tell("");
    this.again();
  }

  // As the graph's prior is drawn, until somebody says otherwise.
  showMoving(on) {
    if (this.chosen || this.moving.checked === on) return;
    this.moving.checked = on;
    this.again();
  }

  // While somebody looks through the camera: to turn it to what exo saw.
  showSeen(on) {
    this.seen.checked = on;
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
      seen: this.seen.checked,
      view: this.view,
      count: ++this.count,
    });
    if (!picture || this.closed) return;
    const image = await createImageBitmap(picture.blob);
    this.canvas.getContext("2d").drawImage(image, 0, 0);
    image.close();
    this.message.hidden = true;
    const percent = Math.round(100 * picture.coverage);
    rewrite(this.note, this.say(picture.coverage > 0 ? "covered" : "coveredNone", { percent }));
  }
}
