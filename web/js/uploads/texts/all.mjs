import en from "./en.mjs";
import ja from "./ja.mjs";
import ko from "./ko.mjs";
import zh from "./zh.mjs";

export const TEXTS = { en, ja, ko, zh };
