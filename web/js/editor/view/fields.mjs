// The pose of the current frame as numbers, and the world's upward axis.
import { button, make, select } from "./elements.mjs";
import { fromAngles, toAngles, upOf } from "../model/pose.mjs";

// An uncertainty of up, in degrees, from which on a picture looks tilted.
const UNSURE_DEG = 10;
const PLACES = ["x", "y", "z"];
const TURNS = ["yaw", "pitch", "roll"];
const AXES = {
  "0,-1,0": "−y",
  "0,1,0": "+y",
  "0,0,1": "+z",
  "0,0,-1": "−z",
  "1,0,0": "+x",
  "-1,0,0": "−x",
};

// A found axis by the name of the nearest one, and how many degrees it is off.
function nearAxis(up) {
  const length = Math.hypot(...up);
  const near = Object.entries(AXES).map(([axis, name]) => {
    const cosine = axis.split(",").reduce((sum, part, i) => sum + part * up[i], 0) / length;
    return [(Math.acos(Math.min(1, cosine)) * 180) / Math.PI, name];
  });
  const [degrees, name] = near.reduce((best, each) => (each[0] < best[0] ? each : best));
  return `${name} (${degrees.toFixed(1)}°)`;
}

export class Fields {
  constructor(state, say) {
    this.state = state;
    this.say = say;
    this.inputs = {};
    const field = (name, unit, step) => {
      const title = say(`${name}Help`);
      const given = {
        type: "number",
        step,
        title,
        "aria-label": title,
        "data-testid": `egox-${name}`,
      };
      this.inputs[name] = make("input", "egox-ed-number", {
        ...given,
        onchange: () => this.apply(),
      });
      return make(
        "label",
        "egox-ed-field",
        {},
        name,
        this.inputs[name],
        make("span", "egox-ed-unit", {}, unit),
      );
    };
    this.up = select("egox-up", say("upHelp"), Object.entries(AXES), (axis) =>
      state.setUp(axis.split(",").map(Number)),
    );
    const level = () => state.setUp(upOf(state.poseAt().turn));
    this.level = button("egox-level", say("level"), say("levelHelp"), level);
    this.level.hidden = true;
    this.element = make(
      "section",
      "egox-ed-fields",
      { "aria-label": say("fields") },
      ...PLACES.map((name) => field(name, "m", "0.01")),
      ...TURNS.map((name) => field(name, "°", "1")),
      make("label", "egox-ed-field", {}, say("up"), this.up),
      this.level,
    );
    state.on(() => this.show());
    this.show();
  }

  // How far up may be off, where that shows.
  showDoubt({ up_within: within, up_note: note } = {}) {
    this.level.hidden = !(within > UNSURE_DEG);
    this.level.title = [this.say("levelHelp"), note].filter(Boolean).join(". ");
  }

  show() {
    const { position, turn } = this.state.poseAt();
    const angles = toAngles(turn, this.state.content.up);
    const values = [...position.map((v) => v.toFixed(3)), ...angles.map((v) => v.toFixed(2))];
    [...PLACES, ...TURNS].forEach((name, i) => {
      const input = this.inputs[name];
      input.dataset.shown = values[i];
      if (document.activeElement !== input) input.value = values[i];
    });
    const axis = this.state.content.up.join(",");
    if (![...this.up.options].some((option) => option.value === axis))
      this.up.append(make("option", "", { value: axis }, nearAxis(this.state.content.up)));
    this.up.value = axis;
  }

  // Only what was typed counts: the other numbers keep their hidden digits.
  apply() {
    const { position, turn } = this.state.poseAt();
    const angles = toAngles(turn, this.state.content.up);
    const read = (name, old) => {
      const input = this.inputs[name];
      const value = Number(input.value);
      return input.value.trim() === "" ||
        !Number.isFinite(value) ||
        input.value === input.dataset.shown
        ? old
        : value;
    };
    const place = PLACES.map((name, i) => read(name, position[i]));
    const turns = TURNS.map((name, i) => read(name, angles[i]));
    this.state.setPose(fromAngles(place, ...turns, this.state.content.up));
    document.activeElement?.blur?.();
    this.show();
  }
}
