/* The network as a picture: a column for each site call, a dot for each live component, at the height of its density. */

import { fittedCanvas, h } from "./dom.js";
import { count, fitted, number, percent, split, visible } from "./format.js";
import { color, onTheme, shade } from "./theme.js";

const TOP = 34;
const BOTTOM = 22;
const LEFT = 46;
const NARROWEST = 54;

/**
 * The picture of a run.
 *
 * `map` are the typed arrays of all components; `sites` the counts; `names` short names. `marked` is a set of numbers that
 * are shown against the others, or null; `told` what is counted below; `call` the column that is chosen. `onSite(call)`, `onComponent(call, component)`.
 */
export function networkMap({ map, sites, names, marked = null, told = "alive", call, onSite, onComponent }) {
  const { density, mean } = map.arrays;
  const largest = Math.max(...map.counts);
  const starts = [];
  map.counts.reduce((sum, one, at) => ((starts[at] = sum), sum + one), 0);
  const lowest = Math.floor(Math.log10(Math.max(1e-7, density.reduce((least, one) => (one > 0 && one < least ? one : least), 1))));
  const box = h("div", { class: "map" });
  box.style.minWidth = `${LEFT + map.calls.length * NARROWEST}px`;
  const tip = h("div", { class: "tip", hidden: true });
  const outer = h("div", { class: "map-outer", role: "img", "aria-label": "components by site and density" }, box, tip);
  let geometry = null;

  const { canvas, redraw, stop } = fittedCanvas(box, (context, width, height) => {
    geometry = { column: (width - LEFT) / map.calls.length, width, height };
    context.font = "11px system-ui, sans-serif";
    scale(context, width, height);
    map.calls.forEach((one, at) => column(context, one, at));
  });

  const y = (share) => TOP + ((Math.log10(Math.max(share, 10 ** lowest)) / lowest) * (geometry.height - TOP - BOTTOM));
  const x = (at, component) => {
    const spread = map.counts[at] > 1 ? component / (map.counts[at] - 1) : 0.5;
    return LEFT + at * geometry.column + 8 + spread * (geometry.column - 18);
  };

  function scale(context, width) {
    context.textAlign = "right";
    context.textBaseline = "middle";
    for (let power = 0; power >= lowest; power -= 1) {
      context.strokeStyle = color("line");
      context.beginPath();
      context.moveTo(LEFT, y(10 ** power));
      context.lineTo(width, y(10 ** power));
      context.stroke();
      context.fillStyle = color("quiet");
      context.fillText(power > -3 ? `${100 * 10 ** power} %` : `1e${power}`.replace("-", "−"), LEFT - 6, y(10 ** power));
    }
  }

  function column(context, one, at) {
    const left = LEFT + at * geometry.column;
    if (one === call) {
      context.fillStyle = color("chosen");
      context.fillRect(left + 1, 0, geometry.column - 2, geometry.height);
    }
    const [path, last] = split(names.get(one) ?? one);
    context.textAlign = "left";
    context.textBaseline = "alphabetic";
    context.fillStyle = color("quiet");
    context.fillText(fitted(context, path, geometry.column - 12), left + 6, 12);
    context.fillStyle = color("text");
    context.font = "600 11px system-ui, sans-serif";
    context.fillText(fitted(context, visible(last), geometry.column - 12), left + 6, 25);
    context.font = "11px system-ui, sans-serif";
    context.fillStyle = color("quiet");
    const { alive, count: all } = sites[at] ?? { alive: 0, count: 0 };
    const share = `${count(alive)} of ${count(all)}`;
    context.fillText(fitted(context, geometry.column > 96 ? `${share} ${told}` : share, geometry.column - 10), left + 6, geometry.height - 7);
    const radius = largest > 400 ? 1.6 : largest > 64 ? 2.6 : 4;
    for (let component = 0; component < map.counts[at]; component += 1) dot(context, at, component, radius);
  }

  function dot(context, at, component, radius) {
    const place = starts[at] + component;
    if (!(density[place] > 0)) return;
    const chosen = !marked || marked.has(place);
    context.globalAlpha = chosen ? 0.9 : 0.13;
    context.fillStyle = marked && chosen ? color("accent") : mean[place] >= 0 ? shade(0.35 + 0.65 * Math.sqrt(mean[place])) : color("accent");
    context.beginPath();
    context.arc(x(at, component), y(density[place]), marked && chosen ? radius + 0.8 : radius, 0, 7);
    context.fill();
    context.globalAlpha = 1;
  }

  function under(event) {
    const at = Math.floor((event.offsetX - LEFT) / geometry.column);
    if (at < 0 || at >= map.calls.length) return null;
    let best = null;
    let nearest = 64;
    for (let component = 0; component < map.counts[at]; component += 1) {
      const share = density[starts[at] + component];
      if (!(share > 0)) continue;
      const distance = (x(at, component) - event.offsetX) ** 2 + (y(share) - event.offsetY) ** 2;
      if (distance < nearest) [nearest, best] = [distance, component];
    }
    return { at, component: best };
  }

  canvas.addEventListener("mousemove", (event) => {
    const found = under(event);
    tip.hidden = !found || found.component === null;
    canvas.style.cursor = found ? "pointer" : "default";
    if (tip.hidden) return;
    const place = starts[found.at] + found.component;
    const means = mean[place] >= 0 ? `, mean importance ${number(mean[place])}` : "";
    tip.textContent = `${visible(map.calls[found.at])}:${found.component} · density ${percent(density[place])}${means}`;
    tip.style.left = `${Math.min(event.offsetX + 12, geometry.width - 260)}px`;
    tip.style.top = `${event.offsetY + 14}px`;
  });
  canvas.addEventListener("mouseleave", () => (tip.hidden = true));
  canvas.addEventListener("click", (event) => {
    const found = under(event);
    if (!found) return;
    if (found.component === null) onSite?.(map.calls[found.at]);
    else onComponent?.(map.calls[found.at], found.component);
  });
  const off = onTheme(redraw);
  return { element: outer, stop: () => (stop(), off()) };
}
