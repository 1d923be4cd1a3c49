// What a player shows as a video in the host's output folder: drawn here, frame by frame, and
// written by the server.
import { postForm } from "../post_form.mjs";
import { STRIP } from "./elements.mjs";
import { LEGEND_HEIGHT } from "./layout.mjs";
import { clipName } from "./runs.mjs";

const SAVE = "/egox/save_clip";
const QUALITY = 0.95; // of JPEG
// views of several pictures, against the stage on the page: as sharp as their sheets
const ENLARGED = 2;

export class Saver {
  constructor(preview) {
    this.preview = preview;
    this.status = ""; // how the saving goes
  }

  async save() {
    const { history, host, time, told, view } = this.preview;
    this.tell("saving");
    // A strip is of runs of its own.
    const run = view === STRIP ? null : (history.runs.get(view) ?? history.runs.get("ego"));
    const about = { name: clipName(view, run), fps: time.shownPerSecond, run: run && told.run };
    try {
      const { file, workflow } = await host.save(about, await pictures(this.preview));
      this.tell(workflow ? "saved" : "savedBare", { file });
    } catch (error) {
      this.tell("notSaved", { reason: error.message });
    }
  }

  tell(key, values) {
    this.status = this.preview.host.say(key, values);
    this.preview.parts.refreshAbout();
  }
}

// Promises a JPEG of every frame of what a player shows: one clip alone in its own size, all else
// as on its stage.
export async function pictures(preview) {
  const clip = preview.clip(preview.view);
  const { clientWidth, clientHeight } = preview.parts.stage;
  const [width, height] = clip
    ? [clip.width, clip.height + (clip.legend ? LEGEND_HEIGHT : 0)]
    : [clientWidth, clientHeight];
  const scale = clip ? 1 : ENLARGED;
  const canvas = new OffscreenCanvas(even(width * scale), even(height * scale));
  const context = canvas.getContext("2d");
  const taken = [];
  for (let number = 0; number < preview.count; number += 1) {
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = getComputedStyle(preview.parts.stage).backgroundColor;
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.setTransform(scale, 0, 0, scale, 0, 0);
    preview.stage.paintFrame(context, [0, 0, width, height], number);
    taken.push(await canvas.convertToBlob({ type: "image/jpeg", quality: QUALITY }));
  }
  return taken;
}

const even = (size) => Math.max(2, 2 * Math.floor(size / 2)); // as video files need it

// about: { name, fps, run }. Promises the file's name below the output folder and whether it
// carries the workflow of that run; rejects with the server's reason.
export async function send(api, about, taken) {
  const body = new FormData();
  body.append("about", JSON.stringify(about));
  for (const picture of taken) body.append("frame", picture, "frame.jpg");
  return postForm(api, SAVE, body);
}
