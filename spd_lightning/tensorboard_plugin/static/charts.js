/* Small charts of a card. */

import { fittedCanvas, h, s } from "./dom.js";
import { count, number, percent, visible } from "./format.js";
import { color, ramp } from "./theme.js";

const W = 320;
const H = 110;

function frame(label, height, ...children) {
  return s("svg", { class: "chart", viewBox: `0 0 ${W} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": label }, ...children);
}

/** Bars of signed numbers; the readout below says which is pointed at. */
export function bars(values, { label, name = (at) => String(at), height = H } = {}) {
  const most = Math.max(...values.map(Math.abs), 1e-30);
  const low = Math.min(0, ...values) / most;
  const high = Math.max(0, ...values) / most;
  const scale = (height - 6) / (high - low || 1);
  const zero = 3 + high * scale;
  const width = W / values.length;
  const gap = width > 3 ? Math.min(1.5, 0.2 * width) : 0;
  const path = (sign) =>
    Array.from(values, (value, at) => {
      if (Math.sign(value) !== sign) return "";
      return `M${(at * width + gap / 2).toFixed(2)} ${zero.toFixed(2)}h${(width - gap).toFixed(2)}v${((-value / most) * scale).toFixed(2)}h${(gap - width).toFixed(2)}z`;
    }).join("");
  const mark = s("rect", { class: "mark", width, height, x: -width, y: 0 });
  const chart = frame(
    label,
    height,
    mark,
    s("path", { class: "positive", d: path(1) }),
    s("path", { class: "negative", d: path(-1) }),
    s("line", { class: "axis", x1: 0, x2: W, y1: zero, y2: zero }),
  );
  const largest = values.reduce((best, value, at) => (Math.abs(value) > Math.abs(values[best]) ? at : best), 0);
  const said = (at) => `${name(at)}: ${number(values[at])}`;
  const readout = h("p", { class: "readout" }, `largest ${said(largest)}`);
  chart.addEventListener("mousemove", (event) => {
    const box = chart.getBoundingClientRect();
    const at = Math.min(values.length - 1, Math.max(0, Math.floor(((event.clientX - box.left) / box.width) * values.length)));
    mark.setAttribute("x", at * width);
    readout.textContent = said(at);
  });
  chart.addEventListener("mouseleave", () => {
    mark.setAttribute("x", -width);
    readout.textContent = `largest ${said(largest)}`;
  });
  return h("div", {}, chart, readout);
}

/** Counts by importance from 0 to 1; heights are logarithms, for the first bin holds nearly all. */
export function histogram(counts) {
  const heights = counts.map((one) => (one > 0 ? Math.log10(one) + 0.3 : 0));
  const most = Math.max(...heights, 1);
  const width = W / counts.length;
  const total = counts.reduce((sum, one) => sum + one, 0);
  const readout = h("p", { class: "readout" }, `${count(total)} positions, on a logarithmic scale`);
  const rects = counts.map((one, at) => {
    const height = (heights[at] / most) * (H - 6);
    return s("rect", { class: "positive", x: at * width + 1, y: H - height, width: width - 2, height });
  });
  const chart = frame("histogram of importances", H, ...rects, s("line", { class: "axis", x1: 0, x2: W, y1: H, y2: H }));
  chart.addEventListener("mousemove", (event) => {
    const box = chart.getBoundingClientRect();
    const at = Math.min(counts.length - 1, Math.max(0, Math.floor(((event.clientX - box.left) / box.width) * counts.length)));
    const [from, to] = [at / counts.length, (at + 1) / counts.length];
    readout.textContent = `${from.toFixed(2)} to ${to.toFixed(2)}: ${count(counts[at])} positions`;
  });
  return h("div", {}, chart, h("p", { class: "scale" }, h("span", {}, "0"), h("span", {}, "importance"), h("span", {}, "1")), readout);
}

/** Points: what a component reads at its places, against how important it is there. */
export function scatter(points, { x, y }) {
  const [least, most] = [Math.min(0, ...points.map(([one]) => one)), Math.max(0, ...points.map(([one]) => one))];
  const span = most - least || 1;
  const place = (value) => 6 + ((value - least) / span) * (W - 12);
  const dots = points.map(([one, other]) =>
    s("circle", { class: "dot", cx: place(one), cy: H - 6 - other * (H - 12), r: 3 }, s("title", {}, `${x} ${number(one)}, ${y} ${number(other)}`)),
  );
  const chart = s("svg", { class: "chart", viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `${y} against ${x}` });
  chart.append(s("line", { class: "axis", x1: place(0), x2: place(0), y1: 0, y2: H }), s("line", { class: "axis", x1: 0, x2: W, y1: H - 6, y2: H - 6 }), ...dots);
  return h("div", {}, chart, h("p", { class: "scale" }, h("span", {}, number(least)), h("span", {}, x), h("span", {}, number(most))));
}

/** A table of names with signed weights as bars. */
export function weights(entries, { name = (one) => visible(one.name), value = (one) => one.weight, format = number, link } = {}) {
  const most = Math.max(...entries.map((one) => Math.abs(value(one))), 1e-30);
  return h(
    "table",
    { class: "weights" },
    entries.map((one) =>
      h(
        "tr",
        {},
        h("td", { class: "name" }, h("span", { class: "foreign" }, link ? link(one) : name(one))),
        h("td", { class: "gauge" }, h("span", { class: value(one) < 0 ? "bar negative" : "bar", style: { width: `${(100 * Math.abs(value(one))) / most}%` } })),
        h("td", { class: "number" }, format(value(one))),
      ),
    ),
  );
}

/** A share as a thin bar. */
export function meter(share) {
  const width = share > 0 ? Math.max(1.5, 100 * Math.min(1, share)) : 0;
  return h("span", { class: "meter", title: percent(share) }, h("span", { class: "bar", style: { width: `${width}%` } }));
}

/** A vector as an image: blue above zero, orange below, like every signed number of the tab. */
export function image(values, [rows, columns], label) {
  const most = Math.max(...values.map(Math.abs), 1e-30);
  const box = h("div", { class: "pixels", style: { aspectRatio: `${columns} / ${rows}` }, role: "img", "aria-label": label });
  const readout = h("p", { class: "readout" }, `${rows} × ${columns} pixels`);
  const { canvas } = fittedCanvas(box, (context, width, height) => {
    values.forEach((value, at) => {
      const [x, y] = [at % columns, Math.floor(at / columns)];
      context.globalAlpha = 1;
      context.fillStyle = color("canvas");
      const [left, top] = [Math.floor((x * width) / columns), Math.floor((y * height) / rows)];
      const [right, bottom] = [Math.floor(((x + 1) * width) / columns), Math.floor(((y + 1) * height) / rows)];
      context.fillRect(left, top, right - left, bottom - top);
      context.globalAlpha = Math.abs(value) / most;
      context.fillStyle = color(value < 0 ? "negative" : "positive");
      context.fillRect(left, top, right - left, bottom - top);
    });
  });
  canvas.addEventListener("mousemove", (event) => {
    const [x, y] = [Math.floor((event.offsetX / canvas.clientWidth) * columns), Math.floor((event.offsetY / canvas.clientHeight) * rows)];
    readout.textContent = `pixel ${y}, ${x}: ${number(values[y * columns + x])}`;
  });
  return h("div", {}, box, readout);
}

/** The scale of importances. */
export function legend() {
  const bytes = ramp();
  const stops = [0, 64, 128, 192, 255].map((at) => `rgb(${bytes[3 * at]},${bytes[3 * at + 1]},${bytes[3 * at + 2]})`);
  return h("span", { class: "legend" }, "0", h("span", { class: "ramp", style: { background: `linear-gradient(90deg,${stops.join(",")})` } }), "1");
}
