// Run by node --test, from tests/web/test_upload_modules.py: the files of dropped folders.
import assert from "node:assert/strict";
import test from "node:test";
import { chunksOf } from "../../web/js/uploads/chunks.mjs";
import { countFor, frameAt, mostFrames, secondsOf, timeOf } from "../../web/js/uploads/seconds.mjs";
import { entriesOf, filesIn } from "../../web/js/uploads/folders.mjs";
import { otherTakesVideo } from "../../web/js/uploads/place.mjs";
import { carriesWorkflow } from "../../web/js/uploads/workflows.mjs";

// As a browser gives them: a file's content on request, a folder's entries some at a time.
function entry(name, inside, above = "") {
  const fullPath = `${above}/${name}`;
  if (inside === undefined)
    return { name, fullPath, isDirectory: false, file: (done) => done(`content of ${name}`) };
  const waiting = Object.entries(inside).map(([each, more]) => entry(each, more, fullPath));
  const readEntries = (done) => queueMicrotask(() => done(waiting.splice(0, 2)));
  return { name, fullPath, isDirectory: true, createReader: () => ({ readEntries }) };
}

const frames = Object.fromEntries(
  ["1.npy", "2.npy", "3.npy", "4.npy", "5.npy"].map((name) => [name, undefined]),
);
const take = () =>
  entry("my take", {
    "exo.mp4": undefined,
    "notes.md": undefined,
    ".DS_Store": undefined,
    "._exo.mp4": undefined,
    __MACOSX: { "exo.mp4": undefined },
    ".cache": { "exo.mp4": undefined },
    depth: { left: frames, empty: {} },
  });
const isWanted = ({ name }) => /\.(mp4|npy)$/.test(name);

test("wanted files are found at any depth, with their folders, and hidden ones aren't", async () => {
  const found = await filesIn([take(), entry("meta.npy")], isWanted, 10);
  assert.deepEqual(
    found.map(({ path }) => path),
    [
      "/meta.npy",
      "/my take/exo.mp4",
      ...[1, 2, 3, 4, 5].map((number) => `/my take/depth/left/${number}.npy`),
    ],
  );
  assert.equal(found[0].file, "content of meta.npy");
});

test("a folder of too many files is not read to its end, and what can't be read is told", async () => {
  await assert.rejects(
    filesIn([take()], isWanted, 6), // seven with the notes
    RangeError,
  );
  assert.equal((await filesIn([take()], isWanted, 7)).length, 6);
  const gone = { ...entry("a.npy"), file: (_, failed) => failed(new Error("gone")) };
  await assert.rejects(filesIn([gone], isWanted, 7), /gone/);
});

test("a drop without a folder is left to others", () => {
  const drop = (...entries) => ({
    items: entries.map((each) => ({ webkitGetAsEntry: () => each })),
  });
  assert.equal(entriesOf(drop(entry("a.npy"), null)), null);
  assert.equal(entriesOf({ items: [{}] }) ?? entriesOf(undefined), null);
  assert.equal(entriesOf(drop(entry("a.npy"), take())).length, 2);
});

test("a file carries a workflow where it is one, or holds one at its start or end", async () => {
  const filler = "\0".repeat(2 ** 24 + 7);
  const files = [
    '{"last_node_id": 3, "nodes": []}',
    `${filler}{"prompt": "{\\"1\\": {\\"class_type\\": 1}}"}`,
  ];
  const others = ['{"intrinsics": [], "class": "type"}', filler, ""];
  for (const [texts, wanted] of [
    [files, true],
    [others, false],
  ])
    for (const text of texts) assert.equal(await carriesWorkflow(new File([text], "any")), wanted);
});

test("a long video's chunks are counted by the sampler's own length and overlap, wherever it stands", () => {
  class Sampler {
    static comfyClass = "EgoXSampleLong";
    constructor(length, known) {
      this.widgets = [
        { name: "length", value: length },
        { name: "continue_motion_max_frames", value: known },
      ];
    }
  }
  const graph = (...inner) => ({ nodes: [{ widgets: [] }, { subgraph: { nodes: inner } }] });
  const counted = [49, 53, 93, 97, 193].map((frames) =>
    chunksOf(graph(new Sampler(49, 5)), frames),
  );
  assert.deepEqual(counted, [null, 2, 2, 3, 5]);
  assert.equal(chunksOf(graph(new Sampler(17, 1)), 33), 2);
  assert.equal(chunksOf(graph(new Sampler(49, 49)), 97), null); // refused by the node
  assert.equal(chunksOf(graph(), 97), null);
});

test("seconds become frames by the video's own rate, and by its own times where they are uneven", () => {
  // 40 frames, the first 20 at 30 a second and the others at 10.
  const times = Array.from({ length: 40 }, (_, frame) =>
    frame < 20 ? frame / 30 : 20 / 30 + (frame - 20) / 10,
  );
  const clips = [25, 60]
    .map((fps) => ({ fps, frames: 200 }))
    .concat({ fps: 15, frames: 40, times });
  // start and length in seconds, rate -> first frame, count
  const wanted = [
    [1, 1.6, 0, [25, 60, 23], [41, 97, 17]],
    [0, 1, 0, [0, 0, 0], [25, 61, 25]],
    [0.5, 1.6, 10, [13, 30, 15], [17, 17, 17]],
    [99, 9, 0, [199, 199, 39], [1, 1, 1]],
    [1, 99, 0, [25, 60, 23], [173, 137, 17]],
    [1, 99, 10, [25, 60, 23], [69, 21, 17]],
  ];
  for (const [from, lasts, rate, firsts, counts] of wanted) {
    assert.deepEqual(
      clips.map((clip) => frameAt(clip, from)),
      firsts,
    );
    assert.deepEqual(
      clips.map((clip, at) => countFor(clip, firsts[at], lasts, rate)),
      counts,
    );
  }
  assert.deepEqual(
    clips.map((clip) => mostFrames(clip, 10, 10)),
    [76, 32, 23],
  );
  assert.equal(timeOf(clips[2], 23).toFixed(3), "0.967");
  assert.deepEqual(
    clips.map((clip) => secondsOf(clip, 10, 13, 0).toFixed(3)),
    ["0.520", "0.217", "0.633"],
  );
  assert.equal(secondsOf(clips[2], 10, 13, 10), 1.3);
});

test("files without an exo video are not put beside another take's video", () => {
  const [sample, own] = ["sample/room/exo.mp4", "egox/hall/exo.mp4"];
  for (const [answer, files, wanted] of [
    [{ depth: "d", camera: "m", truth: "t" }, [own], own],
    [{ depth: "d", camera: "m" }, [sample], sample],
    [{ depth: "d" }, [own], null], // the second step of an upload in two
    [{ poses: "p" }, [sample], null], // a path of one's own for the sample
    [{ video: "v", depth: "d", truth: "t" }, [sample], null],
    [{ depth: "d", truth: "t" }, [], null], // a graph without a video
  ])
    assert.equal(otherTakesVideo(answer, files), wanted);
});
