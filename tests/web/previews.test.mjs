// Run by node --test, from tests/web/test_preview_modules.py: the previews' parts that need no
// page.
import assert from "node:assert/strict";
import test from "node:test";
import { nameOfEyes } from "../../web/js/eye_names.mjs";
import { drawCurve } from "../../web/js/previews/draw.mjs";
import { contain, sideBySide, tableBoxes } from "../../web/js/previews/layout.mjs";
import {
  changes,
  clipName,
  formOf,
  runLabel,
  runsBefore,
  sameForm,
} from "../../web/js/previews/runs.mjs";
import { SheetClip } from "../../web/js/previews/sheets.mjs";
import { stripPrompt } from "../../web/js/previews/strip.mjs";

const close = (a, b) => assert.ok(Math.abs(a - b) < 1e-6, `${a} is not ${b}`);

test("frames lie in their sheets row by row, and short clips stay on their last frame", () => {
  const clip = new SheetClip({ count: 8, columns: 3, rows: 2, width: 10, height: 5 }, [
    "first",
    "second",
  ]);
  assert.deepEqual(clip.frame(0), ["first", 0, 0, 10, 5]);
  assert.deepEqual(clip.frame(5), ["first", 20, 5, 10, 5]);
  assert.deepEqual(clip.frame(7), ["second", 10, 0, 10, 5]);
  assert.deepEqual(clip.frame(30), clip.frame(7));
});

test("a picture is contained in its box, centred", () => {
  assert.deepEqual(contain(200, 100, [10, 20, 100, 100]), [10, 45, 100, 50]);
  assert.deepEqual(contain(100, 200, [0, 0, 100, 100]), [25, 0, 50, 100]);
});

test("side by side: nothing overlaps, nothing leaves the stage, shapes are kept", () => {
  const wide = { width: 784, height: 448 };
  const square = { width: 448, height: 448 };
  for (const clips of [
    [wide, square],
    [wide, square, square, square],
    [square, wide, wide, wide],
    [square],
  ]) {
    for (const stage of [
      [0, 0, 400, 200],
      [0, 0, 320, 320],
      [5, 7, 200, 900],
    ]) {
      const placed = sideBySide(clips, stage);
      assert.equal(placed.length, clips.length);
      placed.forEach(({ clip, box: [x, y, w, h] }, i) => {
        close(w / h, clip.width / clip.height);
        assert.ok(x >= stage[0] - 1e-6 && x + w <= stage[0] + stage[2] + 1e-6);
        assert.ok(y >= stage[1] - 1e-6 && y + h <= stage[1] + stage[3] + 1e-6);
        for (const {
          box: [x2, y2, w2, h2],
        } of placed.slice(i + 1))
          assert.ok(
            x + w <= x2 + 1e-6 || x2 + w2 <= x + 1e-6 || y + h <= y2 + 1e-6 || y2 + h2 <= y + 1e-6,
          );
      });
    }
  }
});

test("side by side uses the stage: two squares stand above each other on a high one", () => {
  const square = { width: 1, height: 1 };
  const [first, second] = sideBySide([square, square], [0, 0, 100, 400]);
  close(first.box[2], 100);
  assert.ok(second.box[1] > first.box[1]);
});

test("the last eight runs are remembered, a run from the cache is the same run, and each node has its own", () => {
  const kept = new Map();
  const storage = {
    getItem: (key) => kept.get(key) ?? null,
    setItem: (key, value) => kept.set(key, value),
  };
  const ego = (name) => ({ name: "ego", files: [{ filename: name }] });
  const given = (name) => [
    { streams: [{ name: "exo", files: [{ filename: "same" }] }, ego(name)], measure: name },
  ];
  const before = (key, name) => runsBefore(key, given(name), storage).map(([run]) => run.measure);
  assert.deepEqual(before("a", "1"), []);
  assert.deepEqual(before("a", "1"), []);
  assert.deepEqual(before("a", "2"), ["1"]);
  assert.deepEqual(before("a", "2"), ["1"], "asked again");
  assert.deepEqual(before("b", "3"), []);
  for (let i = 3; i < 12; i += 1) before("a", String(i));
  assert.deepEqual(before("a", "12"), ["11", "10", "9", "8", "7", "6", "5"]);
  for (let i = 0; i < 30; i += 1) before(`other ${i}`, "5");
  assert.deepEqual(before("a", "6"), [], "long ago");
  const values = {
    4: { kind: "EgoXWanSampler", values: { lambda_g: 3, seed: 7, sampler: "released" } },
  };
  assert.equal(runLabel({ values, measure: "17.3 dB" }), "λ_g 3 · seed 7 · 17.3 dB");
  values[5] = { kind: "EgoXLoadLora", values: { strength: 0.5 } };
  assert.equal(clipName("side", { values }), "side_lambda3_lora0.5_seed7");
  assert.equal(clipName("prior", { values: {} }), "prior");
  assert.equal(clipName("strip", null), "strip");
});

test("what changed between two runs", () => {
  const made = (lambda, text) => ({
    4: { kind: "EgoXWanSampler", values: { lambda_g: lambda, sampler: "released" } },
    "9:2": { kind: "EgoXPrompt", values: { ego_view: { digest: text } } },
  });
  assert.deepEqual(changes(made(3, "a"), made(3, "a")), []);
  assert.deepEqual(changes(made(3, "a"), made(0, "b")), [
    { node: "4", kind: "EgoXWanSampler", name: "lambda_g", from: 3, to: 0 },
    {
      node: "9:2",
      kind: "EgoXPrompt",
      name: "ego_view",
      from: { digest: "a" },
      to: { digest: "b" },
    },
  ]);
  const other = { 4: { kind: "KSampler", values: { lambda_g: 0 } } };
  assert.deepEqual(changes(made(3, "a"), other), [], "another node of that number");
  assert.deepEqual(changes(undefined, made(3, "a")), [], "nothing is known of the run before");
});

test("only clips of one form have a difference", () => {
  const clip = { count: 5, step: 2, source: [96, 80] };
  assert.ok(sameForm(clip, { ...clip }));
  for (const other of [{ count: 4 }, { step: 1 }, { source: [80, 96] }])
    assert.ok(!sameForm(clip, { ...clip, ...other }));
  assert.deepEqual(formOf(clip), { frames: 9, size: "96 x 80" });
});

test("a strip doubles what depends on its two values, and leaves the rest to the server's cache", () => {
  const node = (kind, inputs) => ({ class_type: kind, inputs });
  const prompt = {
    1: node("UNETLoader", { unet_name: "a" }),
    2: node("EgoXLoadLora", { model: ["1", 0], strength: 1 }),
    "5:3": node("EgoXConditioning", { model: ["2", 0], prior: ["6", 0] }),
    4: node("EgoXAttentionCapture", { model: ["2", 0] }),
    "5:7": node("EgoXWanSampler", { model: ["4", 0], canvas: ["5:3", 3], lambda_g: 3, steps: 10 }),
    6: node("EgoXRenderEgoPrior", { size: 80 }),
    8: node("EgoXDecodeEgoHalf", { latent: ["5:7", 0], prior: ["6", 0], exo_images: ["6", 0] }),
    9: node("SaveVideo", { video: ["8", 0] }),
  };
  const before = structuredClone(prompt);
  const { prompt: strip, decoder } = stripPrompt(prompt, "8");
  assert.deepEqual(prompt, before, "the page's own prompt is left as it is");
  for (const id of ["1", "2", "5:3", "6"]) assert.deepEqual(strip[id], prompt[id], id);
  for (const id of ["8", "9", "5:7"]) assert.ok(!(id in strip), id);
  const sampler = strip[strip[decoder].inputs.latent[0]].inputs;
  assert.deepEqual([sampler.canvas, sampler.steps], [["5:3", 3], 10]);
  assert.equal(strip[sampler.lambda_g[0]].class_type, "EgoXSweep");
  const lora = strip[strip[sampler.model[0]].inputs.model[0]].inputs;
  assert.deepEqual(
    [lora.model, lora.strength],
    [
      ["1", 0],
      [sampler.lambda_g[0], 1],
    ],
  );
  assert.deepEqual(Object.keys(strip[decoder].inputs), ["latent"]);

  prompt["5:7"].inputs.lambda_g = ["10", 0];
  assert.equal(stripPrompt(prompt, "8"), null, "λ_g is linked");
  assert.equal(stripPrompt({ 8: node("EgoXDecodeEgoHalf", {}) }, "8"), null);
});

test("the boxes of a table", () => {
  const boxes = tableBoxes(4, 2, 40, [0, 0, 452, 220]);
  assert.equal(boxes.length, 8);
  assert.deepEqual(boxes[0], [40, 16, 100, 100]);
  assert.deepEqual(boxes[7], [352, 120, 100, 100]);
});

test("a frame of which nothing is known has no bar, one at 0 has", () => {
  const drawn = [];
  const context = {
    rect: (...box) => drawn.push(box),
    clearRect() {},
    beginPath() {},
    fill() {},
    fillRect() {},
  };
  drawCurve(context, { values: [0, null, 4, 2], unit: "°" }, 30, 12, "ink", 0, 4);
  assert.deepEqual(drawn, [
    [-5, 11, 10, 1],
    [15, 1, 10, 11],
    [25, 6, 10, 6],
  ]);
});

test("only half a sphere is named as one", () => {
  assert.equal(nameOfEyes("egox_stereo/ego_180_LR", "flat"), "egox_stereo/ego_LR");
  assert.equal(nameOfEyes("egox_stereo/ego_LR", "VR180"), "egox_stereo/ego_180_LR");
  for (const layout of ["VR180", "flat"]) assert.equal(nameOfEyes("my_film", layout), "my_film");
  assert.equal(nameOfEyes("ego_180_LR", "VR180"), "ego_180_LR");
});
