// Run by node --test, from tests/web/test_upload_modules.py: the files of dropped folders.
import assert from "node:assert/strict";
import test from "node:test";
import { chunksOf } from "../../web/js/uploads/chunks.mjs";
import { entriesOf, filesIn } from "../../web/js/uploads/folders.mjs";

// As a browser gives them: a file's content on request, a folder's entries some at a time.
function entry(name, inside, above = "") {
  const fullPath = `${above}/${name}`;
  if (inside === undefined) return { name, fullPath, isDirectory: false, file: (done) => done(`content of ${name}`) };
  const waiting = Object.entries(inside).map(([each, more]) => entry(each, more, fullPath));
  const readEntries = (done) => queueMicrotask(() => done(waiting.splice(0, 2)));
  return { name, fullPath, isDirectory: true, createReader: () => ({ readEntries }) };
}

const frames = Object.fromEntries(["1.npy", "2.npy", "3.npy", "4.npy", "5.npy"].map((name) => [name, undefined]));
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
    ["/meta.npy", "/my take/exo.mp4", ...[1, 2, 3, 4, 5].map((number) => `/my take/depth/left/${number}.npy`)],
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
  const drop = (...entries) => ({ items: entries.map((each) => ({ webkitGetAsEntry: () => each })) });
  assert.equal(entriesOf(drop(entry("a.npy"), null)), null);
  assert.equal(entriesOf({ items: [{}] }) ?? entriesOf(undefined), null);
  assert.equal(entriesOf(drop(entry("a.npy"), take())).length, 2);
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
  const counted = [49, 53, 93, 97, 193].map((frames) => chunksOf(graph(new Sampler(49, 5)), frames));
  assert.deepEqual(counted, [null, 2, 2, 3, 5]);
  assert.equal(chunksOf(graph(new Sampler(17, 1)), 33), 2);
  assert.equal(chunksOf(graph(new Sampler(49, 49)), 97), null); // refused by the node
  assert.equal(chunksOf(graph(), 97), null);
});
