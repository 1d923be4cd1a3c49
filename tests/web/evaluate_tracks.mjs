// Evaluates keyframe documents as the page does: `node evaluate_tracks.mjs CASES.json` prints
// upright w2c of each.
import { readFileSync } from "node:fs";
import { FrameClock } from "../../web/js/editor/model/frame_clock.mjs";
import { parseDocument, trackOf, writeDocument } from "../../web/js/editor/model/document.mjs";
import { toAngles, toW2c } from "../../web/js/editor/model/pose.mjs";

const cases = JSON.parse(readFileSync(process.argv[2], "utf-8"));
const results = cases.map(({ document, wanted, quarter_turns }) => {
  const content = parseDocument(document, FrameClock.standard(), quarter_turns);
  const track = trackOf(content);
  return {
    w2c: wanted.map((moment) => toW2c(track.at(moment))),
    angles: content.keys.map((key) => toAngles(key.pose.turn, content.up)),
    written: JSON.parse(writeDocument(content)),
  };
});
process.stdout.write(JSON.stringify(results));
