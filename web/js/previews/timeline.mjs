// Which frame is shown, and the clock that moves it while the clips play.

export class Timeline {
  constructor(preview) {
    this.preview = preview;
    this.number = 0; // shown frame, counted in the sheets
    this.timer = null; // the animation frame of the next step, while it plays
  }

  get count() {
    return Math.max(
      1,
      ...[...this.preview.clips, ...(this.preview.strip ?? [])].map((clip) => clip.count),
    );
  }

  // Frames of the video from one shown frame to the next.
  get step() {
    return this.preview.clips.reduce((step, clip) => Math.max(step, clip.step), 1);
  }

  get shownPerSecond() {
    return this.preview.fps / this.step;
  }

  seek(number) {
    this.number = Math.min(Math.max(number, 0), this.count - 1);
    this.refresh();
    this.preview.parts.refreshAbout();
    this.preview.draw();
  }

  play() {
    if (this.timer || this.count < 2) return;
    const started = performance.now();
    const first = this.number === this.count - 1 ? 0 : this.number;
    const rate = this.shownPerSecond / 1000;
    const tick = () => {
      this.timer = requestAnimationFrame(tick);
      if (!this.preview.element.isConnected) return;
      const number = Math.floor(first + (performance.now() - started) * rate) % this.count;
      if (number !== this.number) this.seek(number);
    };
    this.timer = requestAnimationFrame(tick);
    this.refresh();
  }

  stop() {
    if (this.timer) cancelAnimationFrame(this.timer);
    this.timer = null;
    this.refresh();
  }

  toggle() {
    if (this.timer) this.stop();
    else this.play();
  }

  refresh() {
    this.preview.parts.refreshTime();
    if (this.preview.told.curve && this.preview.clips.length) this.preview.stage.drawTrack();
  }
}
