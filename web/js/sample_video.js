// Load Exo Video shows the chosen video; the pack's own samples don't lie in the host's input folder, which is all that
// its /view reads, so their address is turned to a route of the pack.
import { app } from "../../scripts/app.js";

function sampleOf(route) {
  if (typeof route !== "string" || !route.startsWith("/view?")) return null;
  const asked = new URLSearchParams(route.slice("/view?".length));
  const file = [asked.get("subfolder"), asked.get("filename")].filter(Boolean).join("/");
  return asked.get("type") === "input" && /^sample\/.*\.(mp4|webm|mov|mkv)$/i.test(file) ? file : null;
}

app.registerExtension({
  name: "EgoX.SampleVideo",
  setup() {
    const apiURL = app.api.apiURL;
    app.api.apiURL = function (route) {
      const file = sampleOf(route);
      return apiURL.call(this, file === null ? route : `/egox/sample_video?file=${encodeURIComponent(file)}`);
    };
  },
});
