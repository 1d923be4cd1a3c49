// Weights as the page draws them: `node weights.mjs CASES.json FILE` prints those of each case.
import { readFileSync } from "node:fs";
import { Geometry } from "../../web/js/previews/weights.mjs";

const { told, cases } = JSON.parse(readFileSync(process.argv[2], "utf-8"));
const { buffer, byteOffset, byteLength } = readFileSync(process.argv[3]);
const geometry = new Geometry(told, buffer.slice(byteOffset, byteOffset + byteLength));
const results = cases.map(({ at, strength }) => [...geometry.weights(...at, strength)]);
// NaN is no JSON.
process.stdout.write(
  JSON.stringify({ results, latents: [0, 1, 4, 5, 8, 99].map((n) => geometry.latent(n)) }),
);
