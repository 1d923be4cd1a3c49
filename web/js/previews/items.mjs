// The previews of one run: a node that got a list runs once for each of its items, and one of them
// is looked at.
import { isOther } from "./history.mjs";

export class Items {
  constructor() {
    this.previews = [];
    this.runsBefore = []; // those of the runs before, the last run first
    this.chosen = 0;
  }

  // The one that was looked at stays, while there are as many.
  take(previews, runsBefore) {
    if (previews.length !== this.previews.length) this.chosen = 0;
    Object.assign(this, { previews, runsBefore });
  }

  // The chosen preview and those of the runs before that were made of the same video.
  choose(number) {
    this.chosen = number;
    const preview = this.previews[number];
    const runs = this.runsBefore.map((run) => run[number]).filter(Boolean);
    return [preview, runs.filter((run) => !isOther(run, preview))];
  }
}
