// In the form: a frame of the chosen video as it will be cropped, and which part of it is used, in seconds.
import { button, make } from "../editor/view/elements.mjs";
import { findWidget, onChange, setWidget } from "../graph_change.mjs";
import { chunksOf } from "./chunks.mjs";
import { countFor, frameAt, mostFrames, secondsOf, timeOf } from "./seconds.mjs";

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
  // The same as numbers to type, by the video's own times.
  const typed = (label, name, frames) => {
    const given = { type: "number", min: 0, step: 0.1, className: "egox-ed-number" };
    const onchange = ({ target }) => clip && set(name, frames(Number(target.value)));
    return make("input", "", { ...given, "data-testid": `egox-trim-${label}-s`, onchange });
  };
  const from = typed("start", "start_frame", (seconds) => frameAt(clip, seconds));
  const lasts = typed("length", "frame_count", (seconds) =>
    countFor(clip, value("start_frame"), seconds, value("target_fps")),
  );
  const labelled = (label, input) => make("label", "egox-ed-trim-s", {}, say(label), input);
  const picture = make("img", "", { "data-testid": "egox-trim-picture", alt: "" });
  const fit = button("egox-trim-fit", say("fit"), say("fit"), () => set("resize", "pad"));
  const half = button("egox-trim-half", say("half"), say("half"), () => set("target_fps", clip.fps / 2));
  const shorten = button("egox-trim-shorten", say("shorten"), say("shorten"), () => set("frame_count", longest()));
  const note = make("div", "egox-ed-node-note", { "data-testid": "egox-trim-note" });
  const element = make("div", "egox-ed-trim", { hidden: true });
  element.append(picture, labelled("start", from), start, labelled("length", lasts), length, fit, half, shorten, note);
  const address = (route, more) => `/egox/${route}?${new URLSearchParams({ file, ...more })}`;
  let [clip, file] = [null, null];
  const most = () => mostFrames(clip, value("start_frame"), value("target_fps"));
  const longest = () => most() - ((most() - 1) % 4);

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
    const short = count > most();
    Object.assign(start, { max: clip.frames - 1, value: first });
    Object.assign(length, { max: Math.max(count, longest()), value: count });
    const [begin, long] = [timeOf(clip, first), secondsOf(clip, first, count, rate)];
    from.value = Number(begin.toFixed(2));
    lasts.value = Number(long.toFixed(2));
    fit.hidden = clip.height <= clip.width || value("resize") === "pad";
    half.hidden = (rate || clip.fps) < FAST;
    shorten.hidden = !short;
    picture.style.aspectRatio = `${value("width")} / ${value("height")}`;
    picture.style.objectFit = value("resize") === "pad" ? "contain" : "cover";
    picture.src = api.apiURL(address("exo_frame", { frame: first }));
    const times = [begin, begin + long, timeOf(clip, clip.frames), rate || clip.fps];
    const [at, to, whole, fps] = times.map((number) => Number(number.toFixed(1)));
    const said = short ? say("short", { count, most: most() }) : say("used", { from: at, to, whole, count, fps });
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
