// In the form: a frame of the chosen video as it will be cropped, and which part of it is used, in seconds.
import { button, make } from "../editor/view/elements.mjs";
import { findWidget, onChange, setWidget } from "../graph_change.mjs";
import { chunksOf } from "./chunks.mjs";

const FAST = 48; // frames a second, from which on half of them are offered

export function trimBar(app, api, node, say) {
  const value = (name) => findWidget(node, name)?.value;
  const set = (name, to) => setWidget(app, node, name, to);
  const range = (label, name, more) => {
    const given = { type: "range", "data-testid": `egox-trim-${label}`, "aria-label": say(label), title: say(label) };
    return make("input", "", { ...given, ...more, oninput: ({ target }) => set(name, Number(target.value)) });
  };
  const start = range("start", "start_frame", { min: 0 });
  const length = range("length", "frame_count", { min: 1, step: 4 });
  const picture = make("img", "", { "data-testid": "egox-trim-picture", alt: "" });
  const fit = button("egox-trim-fit", say("fit"), say("fit"), () => set("resize", "pad"));
  const half = button("egox-trim-half", say("half"), say("half"), () => set("target_fps", clip.fps / 2));
  const note = make("div", "egox-ed-node-note", { "data-testid": "egox-trim-note" });
  const element = make("div", "egox-ed-trim", { hidden: true }, picture, start, length, fit, half, note);
  const address = (route, more) => `/egox/${route}?${new URLSearchParams({ file, ...more })}`;
  let [clip, file] = [null, null];

  const show = async () => {
    if (file !== value("file")) {
      const asked = (file = value("file"));
      const answer = await api.fetchApi(address("exo_clip")).catch(() => null);
      const told = answer?.ok ? await answer.json() : null;
      if (asked !== file) return;
      clip = told;
    }
    element.hidden = !clip;
    if (!clip) return;
    const [first, count, rate] = [value("start_frame"), value("frame_count"), value("target_fps")];
    const fps = rate || clip.fps;
    const most = Math.floor(((clip.frames - 1 - first) * fps) / clip.fps + 1e-6) + 1;
    Object.assign(start, { max: clip.frames - 1, value: first });
    Object.assign(length, { max: Math.max(count, most - ((most - 1) % 4)), value: count });
    fit.hidden = clip.height <= clip.width || value("resize") === "pad";
    half.hidden = fps < FAST;
    picture.style.aspectRatio = `${value("width")} / ${value("height")}`;
    picture.style.objectFit = value("resize") === "pad" ? "contain" : "cover";
    picture.src = api.apiURL(address("exo_frame", { frame: first }));
    const times = [first / clip.fps, first / clip.fps + count / fps, clip.frames / clip.fps, fps];
    const [from, to, whole, shown] = times.map((number) => Number(number.toFixed(1)));
    const said = say("used", { from, to, whole, count, fps: shown });
    const chunks = chunksOf(app.rootGraph ?? app.graph, count);
    note.textContent = [
      said,
      chunks && say("chunks", { chunks }),
      fit.hidden || say("portrait"),
      clip.hdr && say("hdr", clip),
    ]
      .filter((text) => text?.length)
      .join(" ");
  };
  onChange(node, ["file", "start_frame", "frame_count", "target_fps", "resize", "width", "height"], show);
  new IntersectionObserver(show).observe(element); // a workflow that is loaded sets its values without callbacks
  return element;
}
