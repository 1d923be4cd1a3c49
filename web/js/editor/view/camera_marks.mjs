// What is drawn of cameras: the ego camera's frustum with the rim of its lens, its path and
// keyframes, the exo camera.
import {
  BufferGeometry,
  Float32BufferAttribute,
  Group,
  Line,
  LineBasicMaterial,
  LineSegments,
  Mesh,
  MeshBasicMaterial,
  Points,
  PointsMaterial,
  SphereGeometry,
} from "../../vendor/three.mjs";
import { add, apply, forward, fromW2c, matrix, scale } from "../model/pose.mjs";

const EGO = 0xffb000;
const EXO = 0x4aa3ff;
const PATH = 0x35c26b;
const AIM = 0xff4060;
const FRUSTUM_M = 0.22; // length of a ray
const SPOKES = 8;

const lineMaterial = (color) => new LineBasicMaterial({ color });

export class EgoMark {
  constructor() {
    this.object = new Group();
    this.rim = new LineSegments(new BufferGeometry(), lineMaterial(EGO));
    this.ball = new Mesh(new SphereGeometry(0.02, 12, 8), new MeshBasicMaterial({ color: EGO }));
    this.object.add(this.rim, this.ball);
    this.setOutline([
      [-0.5, -0.5, 0.7],
      [0.5, -0.5, 0.7],
      [0.5, 0.5, 0.7],
      [-0.5, 0.5, 0.7],
    ]);
  }

  // Unit rays around the lens' rim, upright camera axes; the first points at the middle of the
  // upper edge.
  setOutline(rays) {
    const at = (i) => rays[i % rays.length].map((v) => v * FRUSTUM_M);
    const parts = [];
    for (let i = 0; i < rays.length; i++) parts.push(at(i), at(i + 1));
    const step = Math.max(1, Math.round(rays.length / SPOKES));
    for (let i = 0; i < rays.length; i += step) parts.push([0, 0, 0], at(i));
    // Straight ahead, and a tick at the upper edge that says which way up the picture is.
    parts.push([0, 0, 0], [0, 0, FRUSTUM_M * 1.4]);
    const top = at(0);
    for (const side of [-0.03, 0.03])
      parts.push([top[0] + side, top[1], top[2]], [top[0], top[1] - 0.06, top[2]]);
    setPositions(this.rim, parts);
  }

  setPose({ position, turn }) {
    this.object.position.set(...position);
    this.object.quaternion.set(...turn);
  }
}

export class PathMark {
  constructor() {
    this.object = new Group();
    this.line = new Line(new BufferGeometry(), lineMaterial(PATH));
    this.keys = new Points(
      new BufferGeometry(),
      new PointsMaterial({ color: EGO, size: 8, sizeAttenuation: false }),
    );
    this.looks = new LineSegments(new BufferGeometry(), lineMaterial(PATH));
    this.aims = new LineSegments(new BufferGeometry(), lineMaterial(AIM));
    for (const part of [this.line, this.keys, this.looks, this.aims]) part.frustumCulled = false;
    this.object.add(this.line, this.keys, this.looks, this.aims);
  }

  // Poses of all frames, and of the keyframes; lines to what is looked at, their ends.
  set(poses, keys, aims = []) {
    setPositions(this.aims, aims);
    const places = (all) => all.map(({ position }) => position);
    setPositions(this.line, places(poses));
    setPositions(this.keys, places(keys));
    const step = Math.max(1, Math.round(poses.length / 24)); // where it looks, every now and then
    const looks = poses
      .filter((_, i) => i % step === 0)
      .flatMap(({ position, turn }) => [position, add(position, scale(forward(turn), 0.08))]);
    setPositions(this.looks, looks);
  }
}

export class ExoMark {
  constructor() {
    this.place = null; // [3], once it is set
    this.object = new Group();
    this.lines = new LineSegments(new BufferGeometry(), lineMaterial(EXO));
    this.lines.frustumCulled = false;
    this.object.add(this.lines);
  }

  // exoFromScene: 3x4; camera: the server's JSON of a camera that is not turned (any other: a rough
  // box).
  set(exoFromScene, camera) {
    const { position: place, turn } = fromW2c(exoFromScene);
    const depth = 0.4;
    const corner = (u, v) => {
      const ray = [
        ((u - camera.cx) / camera.fx) * depth,
        ((v - camera.cy) / camera.fy) * depth,
        depth,
      ];
      return add(apply(matrix(turn), ray), place);
    };
    const [w, h] = [camera.width, camera.height];
    const corners = [corner(0, 0), corner(w, 0), corner(w, h), corner(0, h)];
    const parts = corners.flatMap((point, i) => [point, corners[(i + 1) % 4], place, point]);
    parts.push(
      corner(w * 0.4, 0),
      corner(w * 0.5, -h * 0.12),
      corner(w * 0.6, 0),
      corner(w * 0.5, -h * 0.12),
    );
    setPositions(this.lines, parts);
    this.place = place;
  }
}

function setPositions(object, positions) {
  object.geometry.dispose();
  object.geometry = new BufferGeometry().setAttribute(
    "position",
    new Float32BufferAttribute(positions.flat(), 3),
  );
}
