// A round glass over a picture that is shown smaller than it is: what lies under the pointer,
// large, with a cross.
import { make } from "./elements.mjs";

const SIZE = 132; // px across
const ZOOM = 4; // of the picture's own pixels, at least
const AWAY = 14; // px between the pointer and the glass

// Beside the pointer within a large picture, of a small one beside the column that it is in (from
// `left` on): buttons and words around the picture stay in sight. Where the page has no room there,
// beside the pointer.
function placeOf(box, left, { clientX, clientY }) {
  const reach = AWAY + SIZE;
  const beside = (at, low) => (at - reach > low ? at - reach : at + AWAY);
  if (Math.min(box.width, box.height) > 2 * reach)
    return [beside(clientX, box.left), beside(clientY, box.top)];
  if (left < reach) return [beside(clientX, 0), beside(clientY, 0)];
  return [
    left - reach,
    Math.min(Math.max(clientY - SIZE / 2, box.top), Math.max(box.top, box.bottom - SIZE)),
  ];
}

export class Loupe {
  // over: the canvas that the pointer moves on; picture(): what it shows at full size, or null
  constructor(over, picture) {
    this.over = over;
    this.picture = picture;
    this.element = make("canvas", "egox-ed-loupe", {
      width: SIZE,
      height: SIZE,
      hidden: true,
      "data-testid": "egox-loupe",
      "aria-hidden": "true",
    });
    over.addEventListener("pointermove", (event) => this.show(event));
    for (const kind of ["pointerleave", "pointercancel"])
      over.addEventListener(kind, () => this.hide());
  }

  show(event) {
    const picture = this.picture();
    if (!picture) return this.hide();
    const box = this.over.getBoundingClientRect();
    const scale = picture.width / box.width; // picture px a page px
    const [x, y] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    const span = SIZE / Math.max(ZOOM, 2 / scale);
    const context = this.element.getContext("2d");
    context.fillStyle = "#000";
    context.fillRect(0, 0, SIZE, SIZE);
    context.imageSmoothingEnabled = false;
    context.drawImage(picture, x - span / 2, y - span / 2, span, span, 0, 0, SIZE, SIZE);
    context.strokeStyle = "#ffb000";
    context.beginPath();
    for (const [a, b] of [
      [0.38, 0.47],
      [0.53, 0.62],
    ]) {
      context.moveTo(a * SIZE, SIZE / 2);
      context.lineTo(b * SIZE, SIZE / 2);
      context.moveTo(SIZE / 2, a * SIZE);
      context.lineTo(SIZE / 2, b * SIZE);
    }
    context.stroke();
    const side = this.over.closest(".egox-ed-side").getBoundingClientRect();
    const [left, top] = placeOf(box, side.left, event);
    this.element.style.left = `${left}px`;
    this.element.style.top = `${top}px`;
    this.element.hidden = false;
  }

  hide() {
    this.element.hidden = true;
  }
}
