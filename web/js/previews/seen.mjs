// Marks over the ego video that tell how each pixel is known: a veil, dots, a hatch, an outline.
// Shapes rather than colours, black on white, so that they read on any picture and for everybody.

const TILE = 8; // px of the stage, of a pattern that repeats
// Value of a pixel's class -> what is drawn over it; a class that isn't here stays bare. The values
// are egox_core's.
const MARKS = { 128: veil, 160: veil, 64: dots, 0: hatch };
const REDRAWN = 192;

// Marks of the shown ego video, and whether they are wanted.
export class SeenLayer {
  constructor() {
    this.marks = null; // SeenMarks
    this.isShown = false;
  }

  // clip: of classes; shares: see SeenMarks. Neither where the video has none.
  take(clip, shares) {
    this.marks = clip ? new SeenMarks(clip, shares) : null;
  }
}

export class SeenMarks {
  // clip: a SheetClip of classes; shares: of each class by name, one per frame of the video;
  // redrawn: the share of a frame that exo observed and the model redrew, null where that can't be
  // judged; null of a prior
  constructor(clip, { shares, redrawn }) {
    Object.assign(this, { clip, shares, redrawn });
  }

  // One sentence: the legend of the marks, with the shares of the whole frame in percent; what was
  // redrawn is a part of seen.
  about(frame, say) {
    const percent = (values) => Math.round(100 * (values[frame] ?? 0));
    const shares = Object.entries(this.shares).map(([name, values]) => [name, percent(values)]);
    const redrawn =
      this.redrawn?.[frame] === null
        ? say("seenUnjudged")
        : this.redrawn
          ? say("seenRedrawn", { redrawn: percent(this.redrawn) })
          : "";
    return say("seenShares", { ...Object.fromEntries(shares), redrawn });
  }

  draw(context, number, [x, y, w, h]) {
    const classes = this.classes(number);
    for (const [value, paint] of Object.entries(MARKS)) {
      const layer = new OffscreenCanvas(Math.max(1, Math.round(w)), Math.max(1, Math.round(h)));
      const over = layer.getContext("2d");
      over.fillStyle = paint(over);
      over.fillRect(0, 0, w, h);
      over.globalCompositeOperation = "destination-in";
      over.imageSmoothingEnabled = false;
      over.drawImage(
        this.mask(classes, (i) => classes[i] === Number(value)),
        0,
        0,
        w,
        h,
      );
      context.drawImage(layer, x, y, w, h);
    }
    context.drawImage(
      this.mask(classes, (i) => this.isEdge(classes, i)),
      x,
      y,
      w,
      h,
    );
  }

  // One number per pixel of a shown frame, row by row.
  classes(number) {
    const { width, height } = this.clip;
    const context = new OffscreenCanvas(width, height).getContext("2d");
    context.drawImage(...this.clip.frame(number), 0, 0, width, height);
    return context.getImageData(0, 0, width, height).data.filter((_, i) => i % 4 === 0);
  }

  // White where it holds, else clear.
  mask(classes, holds) {
    const { width, height } = this.clip;
    const canvas = new OffscreenCanvas(width, height);
    const pixels = new Uint32Array(width * height).map((_, i) => (holds(i) ? 0xffffffff : 0));
    const image = new ImageData(new Uint8ClampedArray(pixels.buffer), width, height);
    canvas.getContext("2d").putImageData(image, 0, 0);
    return canvas;
  }

  isEdge(classes, i) {
    const { width } = this.clip;
    return (
      classes[i] === REDRAWN && [-width, width, -1, 1].some((step) => classes[i + step] !== REDRAWN)
    );
  }
}

function veil() {
  return "rgba(128, 128, 128, 0.45)";
}

function dots(context) {
  return pattern(context, (tile) => {
    for (const [radius, colour] of [
      [2, "#000"],
      [1.2, "#fff"],
    ]) {
      tile.fillStyle = colour;
      tile.beginPath();
      tile.arc(TILE / 2, TILE / 2, radius, 0, 2 * Math.PI);
      tile.fill();
    }
  });
}

function hatch(context) {
  return pattern(context, (tile) => {
    for (const [shift, colour] of [
      [0, "#000"],
      [1, "#fff"],
    ]) {
      tile.fillStyle = colour;
      for (let i = 0; i < TILE; i += 1) tile.fillRect(i, (TILE - i + shift) % TILE, 1, 1);
    }
  });
}

function pattern(context, paint) {
  const tile = new OffscreenCanvas(TILE, TILE);
  paint(tile.getContext("2d"));
  return context.createPattern(tile, "repeat");
}
