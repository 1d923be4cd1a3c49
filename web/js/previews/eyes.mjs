// Two eyes in one picture: red and cyan for such glasses, or one after the other, so that depth
// shows without any.
export const WIGGLE = "wiggle";
export const WIGGLE_MS = 180;
const RED = "#f00";
const CYAN = "#0ff";

// Clips of a pair, drawn when asked for; none where it is no pair.
export function eyeClips(clips) {
  const [left, right] = ["leftEye", "rightEye"].map((name) =>
    clips.find((clip) => clip.name === name),
  );
  if (!left || !right) return [];
  const form = Object.fromEntries(
    ["count", "step", "width", "height", "source"].map((key) => [key, left[key]]),
  );
  const wiggled = () => (Math.floor(performance.now() / WIGGLE_MS) % 2 ? right : left);
  return [
    { ...form, name: "anaglyph", frame: anaglyph(left, right) },
    { ...form, name: WIGGLE, frame: (number) => wiggled().frame(number) },
  ];
}

function anaglyph(left, right) {
  const { width, height } = left;
  const [whole, half] = [0, 1].map(() =>
    Object.assign(document.createElement("canvas"), { width, height }),
  );
  return (number) => {
    const context = whole.getContext("2d");
    context.globalCompositeOperation = "copy";
    context.drawImage(filtered(half, left, number, RED), 0, 0);
    context.globalCompositeOperation = "lighter";
    context.drawImage(filtered(half, right, number, CYAN), 0, 0);
    return [whole, 0, 0, width, height];
  };
}

// A picture of what comes through coloured glass.
function filtered(canvas, clip, number, colour) {
  const context = canvas.getContext("2d");
  const [image, ...part] = clip.frame(number);
  context.globalCompositeOperation = "copy";
  context.drawImage(image, ...part, 0, 0, canvas.width, canvas.height);
  context.globalCompositeOperation = "multiply";
  context.fillStyle = colour;
  context.fillRect(0, 0, canvas.width, canvas.height);
  return canvas;
}
