// Clips as contact sheets: which part of which picture is frame n. The rule is egox_core/preview_sheets.py's.

export class SheetClip {
  constructor(stream, images) {
    Object.assign(this, stream);
    this.images = images;
  }

  get still() {
    return this.count === 1;
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
      const images = await Promise.all(
        stream.files.map(async (file) => {
          const image = new Image();
          image.src = url(file);
          await image.decode();
          return image;
        }),
      );
      return new SheetClip(stream, images);
    }),
  );
}
