// Small helpers for the editor's elements.

export function make(tag, className = "", attributes = {}, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && !name.includes("-")) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// A label of words is the button's name for those who speak or hear it, and the title describes it;
// a sign is named by its title.
export function button(id, label, title, onclick, className = "") {
  const attributes = { type: "button", title, "data-testid": id, onclick };
  if (/^[^\p{L}]+$/u.test(label)) attributes["aria-label"] = title;
  return make("button", `egox-ed-button ${className}`, attributes, label);
}

export function select(id, title, options, onchange) {
  const element = make("select", "egox-ed-select", {
    title,
    "aria-label": title,
    "data-testid": id,
  });
  for (const [value, label] of options) element.append(make("option", "", { value }, label));
  element.addEventListener("change", () => onchange(element.value));
  return element;
}

// Writes a text that changes with the shown frame. Where a text node comes or goes, the host's
// rules with :has() may have all parts of the page styled anew.
export function rewrite(element, text) {
  if (element.firstChild) element.firstChild.data = text;
  else element.textContent = text;
}

// Looks, once a page.
export function addCss(id, css) {
  if (!document.getElementById(id)) document.head.append(make("style", "", { id }, css));
}

// A box to tick, with its label.
export function checkbox(id, label, title, onchange) {
  const box = make("input", "", { type: "checkbox", "data-testid": id, onchange });
  return { box, element: make("label", "egox-ed-check", { title }, box, label) };
}

// Whether a tool is in use.
export function showPressed(element, on) {
  element.classList.toggle("egox-ed-on", on);
  element.setAttribute("aria-pressed", String(on));
}

// The press belongs to the element until it is let go, wherever the pointer goes: move(event) gets
// every move.
export function dragging(element, { start, move, end }) {
  element.addEventListener("pointerdown", (event) => {
    if (!event.isPrimary || event.button > 0) return;
    start(event);
    event.preventDefault();
    element.focus({ preventScroll: true });
    element.setPointerCapture(event.pointerId);
    element.addEventListener("pointermove", move);
    const ended = () => {
      element.removeEventListener("pointermove", move);
      end?.();
    };
    element.addEventListener("lostpointercapture", ended, { once: true });
  });
}
