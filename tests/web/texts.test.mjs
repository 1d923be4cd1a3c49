// Run by node --test, from tests/web/test_texts.py: what the page says, in every language.
import assert from "node:assert/strict";
import { test } from "node:test";
import { TEXTS as EDITOR } from "../../web/js/editor/texts/all.mjs";
import { TEXTS as INPUTS } from "../../web/js/inputs/texts/all.mjs";
import { TEXTS as PREVIEWS } from "../../web/js/previews/texts/all.mjs";
import { TEXTS as UPLOADS } from "../../web/js/uploads/texts/all.mjs";
import { languageOf, sayer } from "../../web/js/sayer.mjs";

const gaps = (text) => [...text.matchAll(/\{\w+\}/g)].map(String).sort();

for (const [room, all] of Object.entries({ EDITOR, INPUTS, PREVIEWS, UPLOADS }))
  test(`${room}: every language says everything that English says, with the same gaps to fill`, () => {
    assert.deepEqual(Object.keys(all).sort(), ["en", "ja", "ko", "zh"]);
    for (const [language, texts] of Object.entries(all)) {
      assert.deepEqual(Object.keys(texts).sort(), Object.keys(all.en).sort(), language);
      for (const [key, text] of Object.entries(texts)) {
        assert.ok(text, `${language} ${key}`);
        assert.deepEqual(gaps(text), gaps(all.en[key]), `${language} ${key}`);
      }
    }
  });

test("gaps are filled, in the page's language or else in English", () => {
  for (const language of ["en", "ko", "zh", "ja", "zh-TW", "fr"])
    assert.match(sayer(PREVIEWS, language)("of", { frame: 3, count: 5 }), /3.*5|5.*3/);
  assert.equal(sayer(PREVIEWS, "fr")("wipe"), "wipe");
  assert.equal(sayer(PREVIEWS, "zh-TW")("wipe"), PREVIEWS.zh.wipe);
  assert.notEqual(sayer(PREVIEWS, "ja")("wipe"), "wipe");
  assert.equal(sayer({ en: { a: "{b} c" } }, "en")("a"), " c");
});

test("what a language lacks is said in English, what no table has as the caller says", () => {
  const texts = { en: { a: "one", b: "two" }, ja: { a: "一" } };
  const say = sayer(texts, "ja");
  assert.deepEqual([say("a"), say("b"), say("c"), say("c", {}, "its {label}")], ["一", "two", "c", "its {label}"]);
});

test("the page's language is its setting, English without one", () => {
  const page = { extensionManager: { setting: { get: (name) => (name === "Comfy.Locale" ? "ko" : undefined) } } };
  assert.equal(languageOf(page), "ko");
  assert.equal(languageOf({}), "en");
});
