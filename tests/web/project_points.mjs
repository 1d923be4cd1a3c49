// Pixels of points as the page marks them: `node project_points.mjs CASES.json` prints a list for
// each camera.
import { readFileSync } from "node:fs";
import { pixelOf } from "../../web/js/editor/view/exo_view.mjs";

const cases = JSON.parse(readFileSync(process.argv[2], "utf-8"));
process.stdout.write(
  JSON.stringify(cases.map(({ camera, points }) => points.map((point) => pixelOf(camera, point)))),
);
