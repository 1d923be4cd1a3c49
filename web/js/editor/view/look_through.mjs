// Looking through the ego camera: dragging turns the head, the wheel and W A S D Q E move it. Every
// change is the camera's own, so that it lands in the keyframe of the frame.
import { Quaternion, Vector3 } from "../../vendor/three.mjs";

// three.js cameras look along -z with y up, ours along z with y down.
const THREE_FROM_CV = new Quaternion(1, 0, 0, 0);
const FIELD_DEG = 95; // of the view; the lens' own distortion is what the side view shows
const TURN_DEG = 0.2; // a px
const STEP_M = 0.03;
const OWN_HEAD_M = 0.25; // what is nearer isn't shown: the face that the camera sits in
const MOVES = {
  w: [0, 0, 1],
  s: [0, 0, -1],
  a: [-1, 0, 0],
  d: [1, 0, 0],
  q: [0, 1, 0],
  e: [0, -1, 0],
};

export class LookThrough {
  constructor(view) {
    this.view = view;
    this.on = false;
    this.before = null; // the view that it came from
    this.from = null; // where the hand was last, px
    this.abort = new AbortController();
    const options = { signal: this.abort.signal };
    const { canvas } = view;
    canvas.addEventListener("pointerdown", (event) => this.grab(event), options);
    canvas.addEventListener("pointermove", (event) => this.drag(event), options);
    for (const kind of ["pointerup", "pointercancel"])
      canvas.addEventListener(kind, () => this.release(), options);
    canvas.addEventListener("wheel", (event) => this.roll(event), { ...options, passive: false });
  }

  set(on) {
    if (on === this.on) return;
    const { camera, orbit } = this.view;
    this.on = on;
    if (on) {
      this.before = {
        position: camera.position.clone(),
        turn: camera.quaternion.clone(),
        target: orbit.target.clone(),
        field: camera.fov,
        near: camera.near,
      };
      camera.fov = FIELD_DEG;
      camera.near = OWN_HEAD_M;
      this.follow(this.view.handlePose());
    } else {
      camera.position.copy(this.before.position);
      camera.quaternion.copy(this.before.turn);
      camera.fov = this.before.field;
      camera.near = this.before.near;
      orbit.target.copy(this.before.target);
      orbit.update();
    }
    camera.updateProjectionMatrix();
  }

  follow({ position, turn }) {
    if (!this.on) return;
    const { camera } = this.view;
    camera.position.set(...position);
    camera.quaternion.set(...turn).multiply(THREE_FROM_CV);
    this.view.touch();
  }

  grab(event) {
    if (!this.on || !event.isPrimary) return;
    this.view.canvas.setPointerCapture(event.pointerId);
    this.from = [event.clientX, event.clientY];
    this.view.wishes.onGrab();
  }

  drag(event) {
    if (!this.from || !event.isPrimary) return;
    const [dx, dy] = [event.clientX - this.from[0], event.clientY - this.from[1]];
    this.from = [event.clientX, event.clientY];
    const { handle, up } = this.view;
    // Turned about the world's upright, tilted about the camera's own right side: the horizon stays
    // level.
    const yaw = new Quaternion().setFromAxisAngle(
      new Vector3(...up),
      (-dx * TURN_DEG * Math.PI) / 180,
    );
    const pitch = new Quaternion().setFromAxisAngle(
      new Vector3(1, 0, 0),
      (-dy * TURN_DEG * Math.PI) / 180,
    );
    handle.quaternion.premultiply(yaw).multiply(pitch).normalize();
    this.view.wishes.onPose(this.view.handlePose());
  }

  release() {
    if (!this.from) return;
    this.from = null;
    this.view.wishes.onRelease();
  }

  roll(event) {
    if (!this.on) return;
    event.preventDefault();
    this.step([0, 0, -Math.sign(event.deltaY)]);
  }

  // True where the key was one of its own.
  key(name, fine) {
    if (!this.on || !(name in MOVES)) return false;
    this.step(MOVES[name], fine ? 0.2 : 1);
    return true;
  }

  step(direction, share = 1) {
    const { handle, wishes } = this.view;
    wishes.onGrab();
    handle.position.add(
      new Vector3(...direction).multiplyScalar(STEP_M * share).applyQuaternion(handle.quaternion),
    );
    wishes.onPose(this.view.handlePose());
    wishes.onRelease();
  }

  close() {
    this.abort.abort();
  }
}
