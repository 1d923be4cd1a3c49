// The strip in a preview: its cells, one a pair of λ_g and LoRA strength, and the run that makes
// them.
import { cellsOf, loadClips, loadImage } from "./sheets.mjs";
import { LAMBDAS, STRENGTHS } from "./strip.mjs";

const CELLS = LAMBDAS.length * STRENGTHS.length;

export class StripPlayer {
  constructor(preview) {
    this.preview = preview;
    this.cells = null; // clips, one a pair of values
    this.isShipped = false; // not this graph's own
    this.fps = null;
    this.status = ""; // how the making of one goes
    this.making = null; // the AbortController of the strip's run
    this.isAsked = false; // whether so many runs are wanted
  }

  get about() {
    return this.status || (this.isShipped ? this.preview.host.say("stripShipped") : "");
  }

  // A picture of its cells, made of the sample.
  async showShipped(address) {
    const image = await loadImage(address).catch(() => null);
    if (this.cells || !image) return;
    this.cells = cellsOf(image, LAMBDAS.length, STRENGTHS.length);
    this.isShipped = true;
    this.preview.refresh();
  }

  // Asks first, for it takes long; pressed while it goes on, it ends it.
  async make() {
    if (this.making) return this.making.abort();
    const { host } = this.preview;
    this.isAsked = !this.isAsked;
    const minutes = host.minutes(CELLS) ?? "?";
    if (this.isAsked) return this.tell(host.say("stripAsk", { minutes }));
    const { cells, isShipped } = this;
    this.making = new AbortController();
    this.tell(host.say("stripWaits"));
    let status = "";
    try {
      await this.show(await host.makeStrip((step) => this.showStep(step), this.making.signal));
    } catch (error) {
      status = host.say(error.message);
      Object.assign(this, { cells, isShipped });
    } finally {
      this.making = null;
      this.tell(status);
    }
  }

  // One cell after the other: those that are made stay, the last one is still being sampled.
  async showStep({ cell, step, total, preview }) {
    const { making } = this;
    const [clip] = await loadClips(preview.streams, this.preview.host.url);
    if (!making || making !== this.making) return;
    this.cells = [...(cell ? this.cells : []).slice(0, cell), clip];
    this.isShipped = false;
    this.fps = preview.fps;
    this.tell(this.preview.host.say("stripStep", { cell: cell + 1, count: CELLS, step, total }));
  }

  async show(previews) {
    const egos = previews.flatMap(({ streams }) => streams.filter(({ name }) => name === "ego"));
    this.cells = await loadClips(egos, this.preview.host.url);
    this.fps = previews[0].fps;
    this.isShipped = false;
    this.preview.refresh();
  }

  tell(status) {
    this.status = status;
    this.preview.refresh();
  }
}
