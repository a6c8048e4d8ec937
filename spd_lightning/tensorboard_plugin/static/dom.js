/* Elements. What comes from files gets here as text alone: nothing parses it as markup. */

const SVG = "http://www.w3.org/2000/svg";

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null) continue;
    if (name.startsWith("aria-")) element.setAttribute(name, String(value));
    else if (value === false) continue;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(element.style, value);
    else if (name === "value" || name === "checked" || name === "disabled") element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/** An HTML element: attributes by name, `on...` for listeners, `style` as an object; then its children. */
export function h(tag, attributes, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function s(tag, attributes, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

/** Put other children into an element. */
export function put(element, ...children) {
  element.replaceChildren();
  append(element, children);
  return element;
}

/** What stands where something cannot be shown: one line, quiet for what was never made. */
export function note(problem) {
  const kind = problem.kind === "missing" ? "missing" : "problem";
  return h("p", { class: `note ${kind}`, role: kind === "problem" ? "alert" : undefined }, problem.error ?? String(problem));
}

/** A titled box; `about` says what is in it, in a quieter voice. */
export function card(title, about, ...children) {
  return h("section", { class: "card" }, h("h3", {}, title, about && h("span", { class: "about" }, about)), ...children);
}

/** A choice from a list of [value, text]. */
export function select(label, options, value, change, attributes) {
  const box = h(
    "select",
    { "aria-label": label, onchange: () => change(box.value), ...attributes },
    options.map(([key, text]) => h("option", { value: key, selected: key === value }, text)),
  );
  return box;
}

/** A canvas that fills its parent, sharp on every screen; `draw(context, width, height)` runs whenever the size changes. */
export function fittedCanvas(parent, draw) {
  const canvas = h("canvas", { tabindex: "-1" });
  parent.append(canvas);
  let width = 0;
  let height = 0;
  const redraw = () => {
    if (!width || !height) return;
    const context = canvas.getContext("2d");
    context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    context.clearRect(0, 0, width, height);
    draw(context, width, height);
  };
  const fit = () => {
    width = parent.clientWidth;
    height = parent.clientHeight;
    canvas.width = Math.max(1, Math.round(width * devicePixelRatio));
    canvas.height = Math.max(1, Math.round(height * devicePixelRatio));
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    redraw();
  };
  const observer = new ResizeObserver(fit);
  observer.observe(parent);
  fit();
  return { canvas, redraw, stop: () => observer.disconnect() };
}
