// The exo lens where nothing tells it: its field of view as a row, and keyframes that stay where
// they are seen in the exo picture when it changes.
import { findWidget, holdersOf, nodesOfKind, setValue, setWidget } from "../graph_change.mjs";
import { parseDocument, throughLens, writeDocument } from "./model/document.mjs";
import { FrameClock } from "./model/frame_clock.mjs";
import { make } from "./view/elements.mjs";

const GUESSED = 60; // degrees, as GUESSED_FOV_DEG of egox_core/depth/sources.py
const WRITTEN_AT = "egox_fov"; // node property: the field of view that the keyframes belong to
const half = (fov) => Math.tan((fov * Math.PI) / 360);

const depthOf = (app) => nodesOfKind(app, "EgoXDepthAlign").find(({ mode }) => !mode);

function fovOf(app) {
  const [[holder, name]] = holdersOf(app, depthOf(app), "exo_fov");
  return findWidget(holder, name)?.value || GUESSED;
}

// Whether the lens of the node's scene is the one that the field of view makes.
function isByFov(app, { data }) {
  const { lens_guessed: guessed, frame, exo_camera: camera } = data?.scene ?? {};
  if (!depthOf(app) || frame !== "exo") return false;
  return guessed || Math.abs(camera.width / 2 / camera.fx / half(fovOf(app)) - 1) < 1e-3;
}

// The keyframes have just been written.
export function noteLens(app, node) {
  if (isByFov(app, node.egoxPose)) node.properties[WRITTEN_AT] = fovOf(app);
  else delete node.properties[WRITTEN_AT];
}

// Before a run and in the editor: however the field of view was changed.
export function followLens(app, node) {
  const was = node.properties?.[WRITTEN_AT];
  const now = was && depthOf(app) ? fovOf(app) : was;
  if (was === now) return;
  const content = parseDocument(findWidget(node, "keyframes").value, FrameClock.standard());
  node.properties[WRITTEN_AT] = now;
  setWidget(app, node, "keyframes", writeDocument(throughLens(content, half(now) / half(was))));
}

// A row with show(); changed(): after the field of view was.
export function lensRow(app, node, say, changed) {
  const said = make("output");
  const onchange = () => {
    const camera = node.egoxPose.data.scene.exo_camera;
    const nearer = half(fovOf(app)) / half(Number(input.value));
    Object.assign(camera, { fx: camera.fx * nearer, fy: camera.fy * nearer });
    setValue(app, depthOf(app), "exo_fov", Number(input.value));
    followLens(app, node);
    row.show();
    changed();
  };
  const oninput = () => (said.textContent = `${input.value}°`);
  const given = {
    type: "range",
    min: 20,
    max: 150,
    "data-testid": "egox-exo-fov",
    oninput,
    onchange,
  };
  const input = make("input", "", given);
  const badge = make(
    "span",
    "egox-ed-badge",
    { "data-testid": "egox-lens-guessed" },
    say("lensGuessed"),
  );
  const row = make("label", "egox-ed-lens", { hidden: true, title: say("lensGuessedHelp") });
  row.append(badge, say("fov"), input, said);
  row.show = () => {
    row.hidden = !isByFov(app, node.egoxPose);
    badge.hidden = !node.egoxPose.data?.scene?.lens_guessed;
    input.value = row.hidden ? GUESSED : fovOf(app);
    oninput();
  };
  return row;
}
