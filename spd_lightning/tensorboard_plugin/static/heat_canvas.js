/* A table of importances as a picture that can be zoomed and dragged. */

import { fittedCanvas, h } from "./dom.js";
import { fitted, token, unit } from "./format.js";
import { color, onTheme, ramp } from "./theme.js";

const TOP = 38;
const LEFT = 92;
const MOST = 60;

/** Draws what `inUse` gives; `open(component)` is what a click does; `title` stands above the picture. */
export function heatCanvas(parent, { values, order, rows: said, row_labels: labels }, { title, open }) {
  const [rows, columns] = values.shape;
  const view = { x: 0, y: 0, zoom: 1 };
  const tip = h("div", { class: "tip", hidden: true });
  let picture = painted();
  let size = { width: 1, height: 1, cell: [1, 1] };
  const { canvas, redraw, stop } = fittedCanvas(parent, draw);
  parent.append(tip, h("span", { class: "hint" }, "wheel zooms, drag moves, double click shows all"));
  parent.setAttribute("data-arrows", "heatmap");

  function painted() {
    const bytes = ramp();
    const surface = new OffscreenCanvas(Math.max(1, columns), Math.max(1, rows));
    const pixels = new ImageData(Math.max(1, columns), Math.max(1, rows));
    for (let at = 0; at < values.length; at += 1) {
      const shade = 3 * Math.round(255 * Math.min(1, Math.max(0, values[at])));
      pixels.data.set([bytes[shade], bytes[shade + 1], bytes[shade + 2], 255], 4 * at);
    }
    surface.getContext("2d").putImageData(pixels, 0, 0);
    return surface;
  }

  function draw(context, width, height) {
    const whole = [(width - LEFT - 10) / columns, (height - TOP - 10) / rows];
    size = { width, height, cell: whole.map((one) => one * view.zoom) };
    const [w, t] = size.cell;
    keep();
    context.save();
    context.beginPath();
    context.rect(LEFT, TOP, width - LEFT - 10, height - TOP - 10);
    context.clip();
    context.imageSmoothingEnabled = Math.min(w, t) < 1;
    context.drawImage(picture, LEFT - view.x, TOP - view.y, columns * w, rows * t);
    context.restore();
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    names(context, width, height, w, t);
    context.fillStyle = color("text");
    context.font = "600 12px system-ui, sans-serif";
    context.textAlign = "left";
    context.fillText(fitted(context, title, width - 310), 10, 12);
  }

  function names(context, width, height, w, t) {
    context.fillStyle = color("quiet");
    context.textAlign = "right";
    const everyRow = Math.max(1, Math.ceil(13 / t));
    for (let row = Math.max(0, Math.ceil(view.y / t / everyRow) * everyRow); row < rows; row += everyRow) {
      const y = TOP - view.y + (row + 0.5) * t;
      if (y > height - 10) break;
      if (y > TOP) context.fillText(fitted(context, token(labels[row] ?? String(row)), LEFT - 12), LEFT - 6, y);
    }
    context.textAlign = "center";
    const everyColumn = Math.max(1, Math.ceil(26 / w));
    for (let column = Math.max(0, Math.ceil(view.x / w / everyColumn) * everyColumn); column < columns; column += everyColumn) {
      const x = LEFT - view.x + (column + 0.5) * w;
      if (x > width - 10) break;
      if (x >= LEFT) context.fillText(String(order[column]), x, TOP - 8);
    }
  }

  /** Nothing is dragged out of sight. */
  function keep() {
    const [w, t] = size.cell;
    view.x = Math.min(Math.max(0, columns * w - (size.width - LEFT - 10)), Math.max(0, view.x));
    view.y = Math.min(Math.max(0, rows * t - (size.height - TOP - 10)), Math.max(0, view.y));
  }

  function zoom(factor, x = size.width / 2, y = size.height / 2) {
    const before = view.zoom;
    view.zoom = Math.min(MOST, Math.max(1, view.zoom * factor));
    const ratio = view.zoom / before;
    view.x = (view.x + x - LEFT) * ratio - (x - LEFT);
    view.y = (view.y + y - TOP) * ratio - (y - TOP);
    redraw();
  }

  function whole() {
    Object.assign(view, { x: 0, y: 0, zoom: 1 });
    redraw();
  }

  function under({ offsetX, offsetY }) {
    const column = Math.floor((offsetX - LEFT + view.x) / size.cell[0]);
    const row = Math.floor((offsetY - TOP + view.y) / size.cell[1]);
    const inside = offsetX >= LEFT && offsetY >= TOP && column < columns && row < rows;
    return inside ? { row, column } : null;
  }

  let held = null;
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    held = { x: event.clientX + view.x, y: event.clientY + view.y, moved: false };
  });
  canvas.addEventListener("pointermove", (event) => {
    if (held) {
      const [x, y] = [held.x - event.clientX, held.y - event.clientY];
      held.moved ||= Math.hypot(x - view.x, y - view.y) > 3;
      if (held.moved) {
        Object.assign(view, { x, y });
        redraw();
      }
    }
    point(event);
  });
  canvas.addEventListener("pointerup", (event) => {
    const found = held && !held.moved && under(event);
    held = null;
    if (found && event.detail < 2) open(order[found.column]);
  });
  canvas.addEventListener("dblclick", whole);
  canvas.addEventListener("pointerleave", () => (tip.hidden = true));
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 400), event.offsetX, event.offsetY);
  }, { passive: false });
  for (const [name, act] of [["nearer", () => zoom(1.5)], ["farther", () => zoom(1 / 1.5)], ["whole", whole]]) {
    parent.addEventListener(name, (event) => (event.preventDefault(), act()));
  }

  function point(event) {
    const found = under(event);
    tip.hidden = !found || Boolean(held?.moved);
    if (tip.hidden) return;
    const label = labels[found.row];
    tip.textContent = `component ${order[found.column]} · ${said === "positions" ? "position" : "probe"} ${found.row}${label === undefined ? "" : ` ${token(label)}`}\nimportance ${unit(values[found.row * columns + found.column])}`;
    tip.style.left = `${Math.min(event.offsetX + 14, size.width - 200)}px`;
    tip.style.top = `${Math.min(event.offsetY + 14, size.height - 44)}px`;
  }

  const off = onTheme(() => {
    picture = painted();
    redraw();
  });
  return { stop: () => (stop(), off()) };
}
