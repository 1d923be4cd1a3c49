// Clips as contact sheets: which part of which picture is frame n. The rule is
// egox_core/page/sheets.py's.

export class SheetClip {
  // stream: as nodes/show/player.py writes it, with frames of ``width`` and ``height`` px in its
  // sheets; images: these, decoded.
  constructor(stream, images) {
    Object.assign(this, stream, { images });
  }

  // Source rectangle of a shown frame: [image, x, y, width, height]. Shorter clips stay on their
  // last frame.
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
  const cells = Array.from({ length: columns * rows }, (_, i) => [
    i % columns,
    Math.floor(i / columns),
  ]);
  return cells.map(([column, row]) => ({
    count: 1,
    width,
    height,
    frame: () => [image, column * width, row * height, width, height],
  }));
}
