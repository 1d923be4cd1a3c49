// Clips as contact sheets: which part of which picture is frame n. The rule is egox_core/previews/sheets.py's.

export class SheetClip {
  // stream: as nodes/page/previews.py writes it; images: its sheets, decoded.
  constructor(stream, images) {
    this.name = stream.name;
    this.label = stream.label;
    this.count = stream.count; // of frames in the sheets
    this.step = stream.step; // from one of them to the next, in frames of the video
    this.width = stream.width; // px, of a frame in a sheet
    this.height = stream.height;
    this.columns = stream.columns; // of a sheet
    this.rows = stream.rows;
    this.source = stream.source; // [width, height] of the video, px
    this.legend = stream.legend; // { colours, ticks } or null
    this.pick = stream.pick; // which widgets take a click, { x, y, frame }, or null
    this.images = images;
  }

  // Source rectangle of a shown frame: [image, x, y, width, height]. Shorter clips stay on their last frame.
  frame(number) {
    const place = Math.min(Math.max(number, 0), this.count - 1);
    const perSheet = this.columns * this.rows;
    const within = place % perSheet;
    return [
      this.images[Math.floor(place / perSheet)],
      (within % this.columns) * this.width,
      Math.floor(within / this.columns) * this.height,
      this.width,
      this.height,
    ];
  }
}

// All sheets of all streams, decoded, so that scrubbing never waits. Rejects where a file is gone.
export async function loadClips(streams, url) {
  return Promise.all(
    streams.map(async (stream) => {
      const images = await Promise.all(stream.files.map((file) => loadImage(url(file))));
      return new SheetClip(stream, images);
    }),
  );
}

export async function loadImage(address) {
  const image = new Image();
  image.src = address;
  await image.decode();
  return image;
}

// Clips of one frame: the cells of one picture, row by row.
export function cellsOf(image, columns, rows) {
  const [width, height] = [image.naturalWidth / columns, image.naturalHeight / rows];
  const cells = Array.from({ length: columns * rows }, (_, i) => [i % columns, Math.floor(i / columns)]);
  return cells.map(([column, row]) => ({
    count: 1,
    width,
    height,
    frame: () => [image, column * width, row * height, width, height],
  }));
}
