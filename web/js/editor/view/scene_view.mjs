// The three-dimensional view: orbit, pan, zoom, gizmos on the ego camera, looking through it, and
// clicks on points. Drawn when something changed, never in a loop.
import {
  Color,
  Matrix4,
  Object3D,
  OrbitControls,
  PerspectiveCamera,
  Points,
  PointsMaterial,
  BufferGeometry,
  Scene,
  TransformControls,
  Vector3,
  WebGLRenderer,
} from "../../vendor/three.mjs";
import { CloudPoints, GOAL_MS } from "./cloud_points.mjs";
import { EgoMark, ExoMark, PathMark } from "./camera_marks.mjs";
import { LookThrough } from "./look_through.mjs";

const REST_MS = 220; // without a movement for so long the view is at rest
const CLICK_PX = 5;

export class SceneView {
  // wishes: { onGrab(), onPose(pose), onRelease(), onPick(point) }
  constructor(canvas, wishes) {
    this.canvas = canvas;
    this.wishes = wishes;
    this.renderer = new WebGLRenderer({
      canvas,
      antialias: false,
      powerPreference: "high-performance",
    });
    this.scene = new Scene();
    this.camera = new PerspectiveCamera(55, 1, 0.02, 500);
    this.cloud = new CloudPoints();
    this.ego = new EgoMark();
    this.path = new PathMark();
    this.exo = new ExoMark();
    this.exo.object.visible = false;
    this.ghost = new PathMark(); // a path that is not made of these keyframes, as the run gave it
    this.ghost.line.material.color.set(0x888888);
    this.ghost.looks.material.color.set(0x888888);
    this.ghost.object.visible = false;
    this.mark = new Points(
      new BufferGeometry().setFromPoints([new Vector3()]),
      new PointsMaterial({ color: 0xff4060, size: 10, sizeAttenuation: false, depthTest: false }),
    );
    this.mark.visible = false;
    this.handle = new Object3D();
    const parts = [this.cloud, this.ego, this.path, this.exo, this.ghost];
    this.scene.add(...parts.map(({ object }) => object), this.mark, this.handle);
    this.onePixel = new Uint8Array(4);
    this.tool = "move";
    this.up = [0, -1, 0];
    this.moving = false;
    this.resting = null; // the timer that ends a movement
    this.asked = null; // the animation frame in which it will be drawn
    this.closed = false;
    this.orbit = null;
    this.gizmo = null;
    this.makeControls();
    this.look = new LookThrough(this);
    this.watchClicks();
    this.resizing = new ResizeObserver(() => this.resize());
    this.resizing.observe(canvas.parentElement);
    this.resize();
  }

  makeControls() {
    const target = this.orbit?.target ?? new Vector3(0, 0, 2);
    this.orbit?.dispose();
    this.camera.up.set(...this.up);
    this.orbit = new OrbitControls(this.camera, this.canvas);
    this.orbit.target.copy(target);
    this.orbit.addEventListener("change", () => this.touch());
    this.orbit.update();
    if (this.gizmo) return;
    this.gizmo = new TransformControls(this.camera, this.canvas);
    this.gizmo.setSize(0.75);
    this.gizmo.attach(this.handle);
    this.scene.add(this.gizmo.getHelper());
    this.gizmo.addEventListener("dragging-changed", ({ value }) => {
      this.orbit.enabled = !value && this.tool !== "look";
      if (value) this.wishes.onGrab();
      else this.wishes.onRelease();
    });
    this.gizmo.addEventListener("objectChange", () => this.wishes.onPose(this.handlePose()));
    this.gizmo.addEventListener("change", () => this.draw());
  }

  handlePose() {
    return { position: this.handle.position.toArray(), turn: this.handle.quaternion.toArray() };
  }

  setPose(pose) {
    this.ego.setPose(pose);
    if (!this.gizmo.dragging) {
      this.handle.position.set(...pose.position);
      this.handle.quaternion.set(...pose.turn);
    }
    this.look.follow(pose);
    this.draw();
  }

  setUp(up) {
    if (up.every((v, i) => v === this.up[i])) return;
    this.up = [...up];
    this.makeControls();
    this.draw();
  }

  setTheme(background) {
    this.scene.background = new Color(background);
    this.draw();
  }

  // move | turn | look | snap | aim
  setTool(tool) {
    this.tool = tool;
    this.gizmo.setMode(tool === "turn" ? "rotate" : "translate");
    const gizmo = tool === "move" || tool === "turn";
    this.gizmo.enabled = gizmo;
    this.gizmo.getHelper().visible = gizmo;
    this.gizmo.setSpace(tool === "turn" ? "local" : "world");
    this.look.set(tool === "look");
    this.orbit.enabled = tool !== "look";
    this.ego.object.visible = tool !== "look";
    this.canvas.style.cursor = tool === "snap" || tool === "aim" ? "crosshair" : "";
    this.draw();
  }

  // Look at all of the points, from behind the exo camera (or from where the cloud is seen whole).
  frameAll() {
    const points = this.cloud.parts.static;
    if (!points.count) {
      this.camera.position.set(0.9, -0.9, -1.6);
      this.orbit.target.set(0, 0, 1);
      this.orbit.update();
      return this.draw();
    }
    const xyz = points.geometry.getAttribute("position").array;
    const middle = [0, 1, 2].map((axis) => median(xyz, axis));
    const centre = this.exo.place ?? [middle[0], middle[1], middle[2] - 3];
    const apart = Math.hypot(...middle.map((v, i) => v - centre[i]));
    // A little behind, above and beside the exo camera: its own place would show no depth.
    const ahead = middle.map((v, i) => (v - centre[i]) / Math.max(apart, 1e-6));
    const side = new Vector3(...ahead)
      .cross(new Vector3(...this.up))
      .normalize()
      .multiplyScalar(apart * 0.35);
    this.camera.position
      .set(...centre.map((v, i) => v - ahead[i] * apart * 0.35 + this.up[i] * apart * 0.25))
      .add(side);
    this.orbit.target.set(...middle);
    this.orbit.update();
    this.draw();
  }

  focus(position) {
    const offset = this.camera.position.clone().sub(this.orbit.target);
    offset.setLength(Math.min(offset.length(), 2));
    this.orbit.target.set(...position);
    this.camera.position.copy(this.orbit.target).add(offset);
    this.orbit.update();
    this.draw();
  }

  showMark(point) {
    this.mark.visible = point !== null;
    if (point) this.mark.position.set(...point);
    this.draw();
  }

  // A click is a press and a release at one place; a drag turns the view.
  watchClicks() {
    let start = null;
    this.canvas.addEventListener(
      "pointerdown",
      (event) => (start = event.isPrimary ? [event.clientX, event.clientY] : null),
    );
    this.canvas.addEventListener("pointerup", (event) => {
      const still =
        start && Math.hypot(event.clientX - start[0], event.clientY - start[1]) < CLICK_PX;
      start = null;
      if (!still || (this.tool !== "snap" && this.tool !== "aim")) return;
      const box = this.canvas.getBoundingClientRect();
      const point = this.pointAt(
        event.clientX - box.left,
        event.clientY - box.top,
        event.pointerType === "touch" ? 22 : 9,
      );
      this.showMark(point);
      if (point) this.wishes.onPick(point, this.tool);
    });
  }

  pointAt(x, y, reach) {
    this.camera.updateMatrixWorld();
    const screen = new Matrix4().multiplyMatrices(
      this.camera.projectionMatrix,
      this.camera.matrixWorldInverse,
    );
    return this.cloud.nearest(
      x,
      y,
      screen,
      this.canvas.clientWidth,
      this.canvas.clientHeight,
      reach,
    );
  }

  // Something moves: thinned until it rests.
  touch() {
    this.moving = true;
    clearTimeout(this.resting);
    this.resting = setTimeout(() => {
      this.moving = false;
      this.draw();
    }, REST_MS);
    this.draw();
  }

  draw() {
    if (this.asked || this.closed) return;
    this.asked = requestAnimationFrame(() => {
      this.asked = null;
      this.drawNow();
    });
  }

  drawNow() {
    if (this.closed) return;
    const share = this.cloud.thin(this.moving);
    const start = performance.now();
    this.renderer.render(this.scene, this.camera);
    if (!this.moving) return;
    // Reading a pixel waits until the picture is really drawn (render() only hands the work on): so
    // the time of a frame is known, and no queue of frames builds up behind the hand.
    const gl = this.renderer.getContext();
    gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, this.onePixel);
    const drawn = performance.now() - start;
    if (share < 1 || drawn > GOAL_MS) this.cloud.learn(drawn);
  }

  resize() {
    const box = this.canvas.parentElement.getBoundingClientRect();
    if (box.width < 2 || box.height < 2) return;
    this.renderer.setPixelRatio(Math.min(window.devicePixelRatio || 1, 2));
    this.renderer.setSize(box.width, box.height, false);
    this.camera.aspect = box.width / box.height;
    this.camera.updateProjectionMatrix();
    this.draw();
  }

  close() {
    this.closed = true;
    clearTimeout(this.resting);
    this.resizing.disconnect();
    this.look.close();
    this.gizmo.detach();
    this.gizmo.dispose();
    this.orbit.dispose();
    this.cloud.clear();
    this.renderer.dispose();
    this.renderer.forceContextLoss();
  }
}

function median(xyz, axis) {
  const values = [];
  const step = Math.max(1, Math.floor(xyz.length / 3 / 2000));
  for (let i = axis; i < xyz.length; i += 3 * step) values.push(xyz[i]);
  values.sort((a, b) => a - b);
  return values[values.length >> 1];
}
