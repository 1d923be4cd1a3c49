// Run by node --test, from tests/web/test_texts.py: how the page says a text.
import assert from "node:assert/strict";
import { test } from "node:test";
import { inWordsOf, sayer } from "../../web/js/sayer.mjs";

test("gaps are filled; what nobody fills is empty", () => {
  const say = sayer(undefined, { of: "frame {frame} of {count}" });
  assert.deepEqual([say("of", { frame: 3, count: 5 }), say("of")], ["frame 3 of 5", "frame  of "]);
});

test("what a language lacks is said in English, what no table has as the caller says", () => {
  const say = sayer({ a: "一" }, { a: "one", b: "two" });
  assert.deepEqual(
    [say("a"), say("b"), say("c"), say("c", {}, "its {label}")],
    ["一", "two", "c", "its {label}"],
  );
});

test("a message names buttons and nodes as the page does, and leaves other words alone", () => {
  const page = (open, node, long) => ({
    egox: { editor: { open } },
    nodeDefs: { A: { display_name: node }, B: { display_name: long } },
  });
  const inWords = inWordsOf(page("开", "深度", "深度对齐"), page("Open", "Depth", "Depth Align"));
  assert.equal(
    inWords("press 'Open' on Depth Align, not 'a.mp4'; Open the Depths"),
    "press '开' on 深度对齐, not 'a.mp4'; Open the Depths",
  );
  assert.equal(inWordsOf(undefined, undefined)("as 'it' is"), "as 'it' is");
});
