// A picture that the server draws for every frame: under its head, with what is said in its place
// and a note below.
import { LatestOnly, SceneGone } from "../server.mjs";
import { make } from "./elements.mjs";

export class PicturePanel {
  // name: "exo" or "prior", of its texts and elements; ask(wish): see LatestOnly; onGone(): the
  // server let the scene go
  constructor(server, say, name, [width, height], ask, onGone) {
    Object.assign(this, { server, say, onGone });
    this.closed = false;
    const label = { role: "img", "aria-label": say(`${name}Label`) };
    this.canvas = make("canvas", "", { width, height, "data-testid": `egox-${name}`, ...label });
    this.message = make("div", "egox-ed-message");
    this.note = make("div", "egox-ed-note", { "data-testid": `egox-${name}-note` });
    this.head = make("div", "egox-ed-panel-head", {}, make("b", "", {}, say(name)));
    const picture = make(
      "div",
      `egox-ed-picture egox-ed-picture-${name}`,
      {},
      this.canvas,
      this.message,
    );
    this.element = make(
      "section",
      "egox-ed-panel",
      { "aria-label": say(name) },
      this.head,
      picture,
      this.note,
    );
    this.latest = new LatestOnly(ask, (error) => this.failed(error, this.message));
  }

  // place: the element that says why
  failed(error, place) {
    if (error instanceof SceneGone) return this.onGone();
    place.textContent = error.message;
    place.hidden = false;
  }

  tell(text) {
    this.message.hidden = false;
    this.message.textContent = text;
  }

  close() {
    this.closed = true;
  }
}
