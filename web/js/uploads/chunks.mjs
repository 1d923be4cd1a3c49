// How many clips the graph's sampler of long videos makes of so many frames: its plan_chunks, for
// the page.
import { findWidget, nodesOf } from "../graph_change.mjs";

const SAMPLER = "EgoXSampleLong";

// Null where the graph has no such sampler, or where it samples all of the frames at once.
export function chunksOf(graph, frames) {
  const sampler = [...nodesOf(graph)].find(({ constructor }) => constructor.comfyClass === SAMPLER);
  const [length, known] = ["length", "continue_motion_max_frames"].map(
    (name) => findWidget(sampler, name)?.value,
  );
  return frames > length && length > known
    ? 1 + Math.ceil((frames - length) / (length - known))
    : null;
}
