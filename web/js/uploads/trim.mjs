// In the form: a frame of the chosen video as it will be cropped, and which part of it is used, in
// seconds.
import { button, make } from "../editor/view/elements.mjs";
import { findWidget, onChange, setWidget } from "../graph_change.mjs";
import { tellOfVideo } from "../missing_files.mjs";
import { chunksOf } from "./chunks.mjs";
import { oneShotButton } from "./one_shot.mjs";
import { needsDepth } from "./place.mjs";
import { countFor, frameAt, framesSaid, mostFrames, secondsOf, timeOf } from "./seconds.mjs";

const FAST = 48; // frames a second, from which on half of them are offered
// node property, so that a saved workflow knows it, too: { file, values: { name: [was, is] } }
const PRESSED = "egox_pressed";

export function trimBar(app, api, node, say) {
  const value = (name) => findWidget(node, name)?.value;
  const set = (name, to) => setWidget(app, node, name, to);
  const presses = () => node.properties[PRESSED]?.values ?? {};
  // What was set for this clip: with another file it ends, unless a hand has changed it since.
  const press = (name, to) => {
    const [was] = presses()[name] ?? [value(name)];
    node.properties[PRESSED] = { file: value("file"), values: { ...presses(), [name]: [was, to] } };
    set(name, to);
  };
  const letGo = () => {
    if ((node.properties[PRESSED]?.file ?? value("file")) === value("file")) return;
    const ended = Object.entries(presses());
    delete node.properties[PRESSED];
    for (const [name, [was, is]] of ended) if (value(name) === is) set(name, was);
  };
  const range = (label, name, more) => {
    const given = {
      type: "range",
      "data-testid": `egox-trim-${label}`,
      "aria-label": say(label),
      title: say(label),
    };
    return make("input", "", {
      ...given,
      ...more,
      oninput: ({ target }) => change[name](Number(target.value)),
    });
  };
  // A moment is one of this clip; a length may be meant for the next one, too.
  const change = {
    start_frame: (to) => press("start_frame", to),
    frame_count: (to) => set("frame_count", to),
  };
  const start = range("start", "start_frame", { min: 0 });
  const length = range("length", "frame_count", { min: 1, step: 4 });
  // The same as numbers to type, by the video's own times.
  const typed = (label, name, frames) => {
    const given = {
      type: "number",
      min: 0,
      step: 0.1,
      className: "egox-ed-number",
      "aria-label": say(label),
    };
    const onchange = ({ target }) => clip && change[name](frames(Number(target.value)));
    return make("input", "", { ...given, "data-testid": `egox-trim-${label}-s`, onchange });
  };
  const from = typed("start", "start_frame", (seconds) => frameAt(clip, seconds));
  const lasts = typed("length", "frame_count", (seconds) =>
    countFor(clip, value("start_frame"), seconds, rate()),
  );
  const labelled = (label, input) => make("label", "egox-ed-trim-s", {}, say(label), input);
  const picture = make("img", "", { "data-testid": "egox-trim-picture", alt: "" });
  // One button there and back: toggle() says which of the two it does.
  const toggled = (name, setting) =>
    button(`egox-trim-${name}`, "", "", (event) => press(setting, event.currentTarget.to));
  const fit = toggled("fit", "resize");
  const half = toggled("half", "target_fps");
  const shorten = toggled("shorten", "frame_count");
  const toggle = (element, shown, to, text, values) =>
    Object.assign(element, {
      hidden: !shown,
      to,
      textContent: say(text, values),
      title: say(text, values),
    });
  const oneShot = oneShotButton(app, api, node, say);
  const note = make("div", "egox-ed-node-note", { "data-testid": "egox-trim-note" });
  const element = make("div", "egox-ed-trim", { hidden: true });
  element.append(picture, labelled("start", from), start, labelled("length", lasts), length);
  element.append(fit, half, shorten, oneShot.element, note);
  const address = (route, more) => `/egox/${route}?${new URLSearchParams({ file, ...more })}`;
  let [clip, file] = [null, null];
  let isChosen = false; // by a hand or an upload, not by a workflow that is loaded
  const tooFast = () => value("target_fps") > clip.fps * 1.001;
  const rate = () => (tooFast() ? 0 : value("target_fps"));
  const most = () => mostFrames(clip, value("start_frame"), rate());
  const longest = () => most() - ((most() - 1) % 4);

  const show = async () => {
    letGo();
    oneShot.show();
    if (file !== value("file")) {
      const asked = (file = value("file"));
      clip = null;
      const answer = await api.fetchApi(address("exo_clip")).catch(() => null);
      const told = answer?.ok ? await answer.json() : null;
      if (asked !== file) return;
      clip = told;
      element.hidden = !clip;
      if (isChosen) tellOfVideo(api, clip);
    }
    if (!clip) return;
    if (value("start_frame") >= clip.frames) return press("start_frame", 0);
    const [first, count, padded] = [
      value("start_frame"),
      value("frame_count"),
      value("resize") === "pad",
    ];
    const short = count > most();
    if (short && isChosen) {
      isChosen = false;
      return press("frame_count", longest());
    }
    isChosen = false;
    Object.assign(start, { max: clip.frames - 1, value: first });
    Object.assign(length, { max: Math.max(count, longest()), value: count });
    const [begin, long] = [timeOf(clip, first), secondsOf(clip, first, count, rate())];
    from.value = Number(begin.toFixed(2));
    lasts.value = Number(long.toFixed(2));
    const upright = clip.height > clip.width && !padded;
    toggle(fit, padded || upright, padded ? "crop" : "pad", padded ? "fill" : "fit");
    const picked = value("target_fps") > 0;
    toggle(half, picked || clip.fps >= FAST, picked ? 0 : clip.fps / 2, picked ? "every" : "half");
    const [was, is] = presses().frame_count ?? [];
    const shortened = !short && is === count && was > is;
    const back = shortened && was <= most();
    toggle(shorten, short || back, back ? was : longest(), back ? "lengthen" : "shorten", {
      count: was,
    });
    picture.style.aspectRatio = `${value("width")} / ${value("height")}`;
    picture.style.objectFit = padded ? "contain" : "cover";
    picture.src = api.apiURL(address("exo_frame", { frame: first }));
    const [at, to, whole] = [begin, begin + long, timeOf(clip, clip.frames)].map((time) =>
      Number(time.toFixed(1)),
    );
    const fps = Number((rate() || clip.fps).toFixed(2));
    const used = { from: at, to, whole, frames: framesSaid(say, count), fps };
    const said = short ? say("short", { count, most: most() }) : say("used", used);
    const chunks = chunksOf(app.rootGraph, count);
    note.textContent = [
      said,
      shortened && !back && say("shortened", { count: was }),
      !clip.depth && needsDepth(app) && say("noDepth"),
      tooFast() && say("tooFast", { wanted: value("target_fps"), fps }),
      clip.times && say("uneven"),
      chunks && say("chunks", { chunks }),
      upright && say("portrait"),
      clip.hdr && say("hdr", clip),
      ...clip.remarks.map(([key, value]) => say(key, { value })),
    ]
      .filter((text) => text?.length)
      .join(" ");
  };
  node.egoxTrim = show;
  onChange(node, ["file"], () => (isChosen = true));
  onChange(
    node,
    ["file", "start_frame", "frame_count", "target_fps", "resize", "width", "height"],
    show,
  );
  // a workflow that is loaded sets its values without callbacks
  new IntersectionObserver(show).observe(element);
  return element;
}
