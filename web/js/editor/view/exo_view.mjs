// The exo frame: a click says what the wearer looks at, or two place the head and aim it; the
// server knows the depth under a click.
import { button, showPressed } from "./elements.mjs";
import { Loupe } from "./loupe.mjs";
import { PicturePanel } from "./picture_panel.mjs";
import { dot, toW2c } from "../model/pose.mjs";

const AXES = ["#ff5a4f", "#35c26b", "#4a9eff"]; // right, down, ahead
const AXIS_M = 0.25;
const SAID = { place: "clickHead", aim: "clickTarget", look: "clickLook" };
const AGAIN = 0.015; // of the picture's sides: a second click at the same place

// Where a lens puts a point on the plane of focal length 1 (egox_core/cameras/lenses.py has the
// same formulas).
const radial = (point, factor) => [point[0] * factor, point[1] * factor];
const PLANE = {
  pinhole: (point) => radial(point, 1 / point[2]),
  opencv: (point, distortion) => {
    const [k1, k2, p1, p2] = distortion.length ? distortion : [0, 0, 0, 0];
    const [x, y] = radial(point, 1 / point[2]);
    const square = x * x + y * y;
    const steepest = k2 > 0 ? Math.min(square, Math.max(0, (-0.3 * k1) / k2)) : square;
    // past where the lens folds back
    if (1 + steepest * (3 * k1 + 5 * k2 * steepest) < 0.02) return null;
    const factor = 1 + square * (k1 + k2 * square) + 2 * (p1 * y + p2 * x);
    return [x * factor + p2 * square, y * factor + p1 * square];
  },
  opencv_fisheye: (point, distortion) => {
    const across = Math.hypot(point[0], point[1]);
    if (across < 1e-9) return radial(point, 1 / point[2]);
    const theta = Math.atan2(across, point[2]);
    const bend = distortion.reduceRight((sum, k) => (sum + k) * theta * theta, 0);
    return radial(point, (theta * (1 + bend)) / across);
  },
};

// Pixel of a point in the axes of a camera; null behind it, or where the lens is one that isn't
// drawn here.
export function pixelOf(camera, seen) {
  const plane =
    seen[2] >= 0.02 &&
    camera.quarter_turns % 4 === 0 &&
    PLANE[camera.lens]?.(seen, camera.distortion);
  return plane ? [plane[0] * camera.fx + camera.cx, plane[1] * camera.fy + camera.cy] : null;
}

export class ExoView extends PicturePanel {
  // lens: a row with show(); wishes: { onPlace(point), onAim(point), onLook(point), onLookTool(),
  // onFrame(frame), onStep(), onGone() }
  constructor(server, say, lens, wishes) {
    super(server, say, "exo", [16, 9], (frame) => this.ask(frame), wishes.onGone);
    this.wishes = wishes;
    this.place = button("egox-place", say("placeHead"), say("placeHeadHelp"), () =>
      this.begin("place"),
    );
    this.looking = button("egox-look", say("aim"), say("lookAtHelp"), () => wishes.onLookTool());
    const enlarge = () => this.element.closest(".egox-ed").classList.toggle("egox-ed-large");
    const large = button("egox-exo-large", "⤢", say("large"), enlarge);
    this.lens = lens;
    this.loupe = new Loupe(this.canvas, () => (this.scene?.pictures ? this.image : null));
    this.head.append(this.looking, this.place, large);
    this.head.after(lens);
    this.element.append(this.loupe.element);
    this.scene = null; // what the node told of it
    this.trusted = true; // whether clicks count: not in the scene of an earlier run
    this.step = null; // null, "place" and then "aim", or "look"
    this.clicks = []; // the shares of width and height of each that isn't answered yet
    // the last click on what is looked at: again at that place it may be the wearer's own
    this.last = null;
    this.look = null; // what is looked at in this frame
    this.frame = 0;
    this.poses = []; // of every frame
    this.pose = null; // of this frame
    this.image = null;
    this.shown = null; // the frame of the image
    this.canvas.addEventListener("click", (event) => this.click(event));
    this.setScene(null);
  }

  // scene: what the node told of it, or null
  setScene(scene) {
    if (scene?.token !== this.scene?.token) this.dropClicks();
    this.scene = scene;
    this.loupe.hide();
    this.lens.show();
    this.shown = null;
    this.looking.disabled = this.place.disabled = !scene || !this.trusted;
    if (!scene) {
      this.begin(null); // another scene isn't trusted at first, which ends it, too
      return this.tell("");
    }
    if (!scene.pictures) this.tell(this.say("exoNoPictures"));
    [this.canvas.width, this.canvas.height] = scene.exo_size;
    this.element.style.setProperty("--egox-aspect", scene.exo_size[0] / scene.exo_size[1]);
  }

  // trusted: whether the scene is that of the graph as it is now
  trust(trusted) {
    this.trusted = trusted;
    this.looking.disabled = this.place.disabled = !this.scene || !trusted;
    if (!trusted) this.begin(null);
  }

  begin(step) {
    if (step && (!this.scene || !this.trusted)) return;
    const isNew = this.step !== step;
    this.step = step;
    showPressed(this.looking, step === "look");
    showPressed(this.place, step === "place" || step === "aim");
    this.canvas.style.cursor = step ? "crosshair" : "";
    this.note.textContent = step ? this.say(SAID[step]) : "";
    if (isNew) this.wishes.onStep();
  }

  // After a click: the frame in which another one helps most, null for none.
  propose(frame) {
    const words = this.say(frame === null ? "lookSet" : "lookMore");
    const go = () => this.wishes.onFrame(frame);
    const next =
      frame === null ? [] : [button("egox-look-next", this.say("lookNext", { frame }), words, go)];
    this.note.replaceChildren(`${words} `, ...next);
  }

  // look: the point that is looked at in this frame, or null
  show(frame, poses, pose, look = null) {
    this.look = look;
    this.frame = frame;
    this.poses = poses;
    this.pose = pose;
    if (!this.scene) return;
    if (this.scene.pictures && this.shown !== frame) this.latest.want(frame);
    else this.draw();
  }

  async ask(frame) {
    if (!this.scene || this.closed) return;
    const picture = await this.server.picture("exo_frame", {
      token: this.scene.token,
      frame: Math.min(frame, this.scene.frames - 1),
    });
    const image = await createImageBitmap(picture.blob);
    if (this.closed) return image.close();
    this.image?.close(); // only now: the one before is drawn until then, under the loupe too
    this.image = image;
    this.shown = frame;
    this.message.hidden = true;
    this.draw();
  }

  draw() {
    const context = this.canvas.getContext("2d");
    const { width, height } = this.canvas;
    context.clearRect(0, 0, width, height);
    if (this.image && this.scene.pictures) context.drawImage(this.image, 0, 0, width, height);
    const line = width / 260;
    context.lineWidth = line;
    context.strokeStyle = "#35c26b";
    context.beginPath();
    let open = false;
    for (const pose of this.poses) {
      const at = this.pixel(pose.position);
      if (at && open) context.lineTo(...at);
      else if (at) context.moveTo(...at);
      open = at !== null;
    }
    context.stroke();
    const at = this.pose && this.pixel(this.pose.position);
    if (!at) return;
    context.strokeStyle = "#ffb000";
    context.beginPath();
    context.arc(...at, line * 4, 0, 7);
    context.stroke();
    const aim = this.look && this.pixel(this.look);
    if (aim) {
      context.strokeStyle = "#ff4060";
      context.beginPath();
      context.moveTo(...at);
      context.lineTo(...aim);
      context.arc(...aim, line * 3, 0, 7);
      context.stroke();
    }
    toW2c(this.pose).forEach((axis, i) => {
      const tip = this.pixel(this.pose.position.map((v, k) => v + AXIS_M * axis[k]));
      if (!tip) return;
      context.strokeStyle = AXES[i];
      context.beginPath();
      context.moveTo(...at);
      context.lineTo(...tip);
      context.stroke();
    });
  }

  // Where a scene point lies in the exo picture, or null.
  pixel(point) {
    const { exo_camera: camera, exo_from_scene: poses } = this.scene;
    const pose = poses[Math.min(this.frame, poses.length - 1)];
    return pixelOf(
      camera,
      pose.map((row) => dot(row, point) + row[3]),
    );
  }

  // A click that comes before the answer to the one before is for the step after it, or for none if
  // that fails.
  async click(event) {
    const box = this.canvas.getBoundingClientRect();
    const share = (value, low, size) => Math.min(1, Math.max(0, (value - low) / size));
    const { clicks } = this;
    clicks.push([
      share(event.clientX, box.left, box.width),
      share(event.clientY, box.top, box.height),
    ]);
    if (clicks.length > 1) return;
    while (clicks.length) {
      await this.takeClick(clicks, ...clicks[0]);
      clicks.shift();
    }
  }

  // The answers to these are for a scene that is gone, or for a step that failed.
  dropClicks() {
    this.clicks.length = 0;
    this.clicks = [];
  }

  async takeClick(clicks, u, v) {
    if (!this.scene) return;
    if (!this.step) return (this.note.textContent = this.say("placeHeadHelp"));
    const placing = this.step === "place";
    const looking = this.step === "look";
    const again =
      this.last?.frame === this.frame && Math.hypot(u - this.last.u, v - this.last.v) < AGAIN;
    if (looking) this.last = { frame: this.frame, u, v };
    try {
      const { point } = await this.server.json("pick", {
        head: placing,
        token: this.scene.token,
        frame: Math.min(this.frame, this.scene.frames - 1),
        u,
        v,
        ...(looking && !again && this.pose ? { wearer: this.pose.position } : {}),
      });
      if (clicks !== this.clicks) return;
      if (looking) return this.wishes.onLook(point);
      this.begin(placing ? "aim" : null);
      if (placing) this.wishes.onPlace(point);
      else this.wishes.onAim(point);
    } catch (error) {
      if (clicks !== this.clicks) return;
      this.dropClicks();
      this.failed(error, this.note);
    }
  }

  close() {
    super.close();
    this.image?.close();
  }
}
