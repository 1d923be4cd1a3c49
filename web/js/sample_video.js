// Load Exo Video shows the chosen video, and its list in a form one of each; the pack's own samples
// don't lie in the host's input folder, which is all that its /view reads, so their address is
// turned to a route of the pack.
import { app } from "../../scripts/app.js";

function sampleOf(route) {
  if (typeof route !== "string" || !route.startsWith("/view?")) return null;
  const asked = new URLSearchParams(route.slice("/view?".length));
  const file = [asked.get("subfolder"), asked.get("filename")].filter(Boolean).join("/");
  return asked.get("type") === "input" && /^sample\/.*\.(mp4|webm|mov|mkv)$/i.test(file)
    ? file
    : null;
}

// The list asks /view for files in folders, too, which that doesn't find, and a browser can't show
// all formats.
function showPicture({ target }) {
  if (target.tagName !== "VIDEO" || !/\/view\?/.test(target.src)) return;
  const asked = new URL(target.src).searchParams;
  const [folder, name, type] = ["subfolder", "filename", "type"].map((key) => asked.get(key));
  const file = [folder, name].filter(Boolean).join("/") + (type === "input" ? "" : ` [${type}]`);
  target.poster = app.api.apiURL(`/egox/exo_frame?${new URLSearchParams({ file })}`);
}

app.registerExtension({
  name: "EgoX.SampleVideo",
  setup() {
    document.addEventListener("error", showPicture, true); // of an element, which doesn't bubble
    const apiURL = app.api.apiURL;
    app.api.apiURL = function (route) {
      const file = sampleOf(route);
      return apiURL.call(
        this,
        file === null ? route : `/egox/sample_video?file=${encodeURIComponent(file)}`,
      );
    };
  },
});
