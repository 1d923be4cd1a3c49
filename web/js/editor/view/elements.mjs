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

export function button(id, label, title, onclick, className = "") {
  return make(
    "button",
    `egox-ed-button ${className}`,
    { type: "button", title, "aria-label": title, "data-testid": id, onclick },
    label,
  );
}

export function select(id, title, options, onchange) {
  const element = make("select", "egox-ed-select", { title, "aria-label": title, "data-testid": id });
  for (const [value, label] of options) element.append(make("option", "", { value }, label));
  element.addEventListener("change", () => onchange(element.value));
  return element;
}

// The press belongs to the element until it is let go, wherever the pointer goes: drag(event) gets every move.
export function dragging(element, { start, move, end }) {
  element.addEventListener("pointerdown", (event) => {
    if (!event.isPrimary || event.button > 0 || start?.(event) === false) return;
    event.preventDefault();
    element.focus?.({ preventScroll: true });
    element.setPointerCapture(event.pointerId);
    const moved = (e) => move(e);
    const ended = (e) => {
      element.removeEventListener("pointermove", moved);
      element.removeEventListener("pointerup", ended);
      element.removeEventListener("pointercancel", ended);
      end?.(e);
    };
    element.addEventListener("pointermove", moved);
    element.addEventListener("pointerup", ended);
    element.addEventListener("pointercancel", ended);
  });
}
