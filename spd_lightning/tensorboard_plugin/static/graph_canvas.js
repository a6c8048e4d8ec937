/* An attribution graph on a canvas: layers from left to right, drag and zoom, what is pointed at comes forward. */

import { fittedCanvas, h } from "./dom.js";
import { fitted, number, percent, shortNames, split, token, visible } from "./format.js";
import { layout, nodeKey, nodeLabel, strongEdges } from "./graph_layout.js";
import { color, onTheme } from "./theme.js";

const HEAD = 34;
const SIDE = 78;

/** `open(call, component)` is what a click on a component does. The result takes thresholds and marked nodes. */
export function graphCanvas(parent, graph, { open }) {
  const tip = h("div", { class: "tip", hidden: true });
  const names = shortNames(graph.places);
  const strongest = Math.max(1e-12, Math.abs(graph.edges.strength[0] ?? 0));
  let [edges, plan, marked, pointed] = [0, null, new Set(), null];
  let view = { x: 0, y: 0, zoom: 1 };
  let size = { width: 1, height: 1 };
  let isMoved = false;
  let column = 150;
  const { canvas, redraw, stop } = fittedCanvas(parent, draw);
  parent.append(tip, h("span", { class: "hint" }, "wheel zooms, drag moves, double click shows all"));
  parent.setAttribute("data-arrows", "graph");

  function show(threshold, chosen = marked) {
    marked = chosen;
    edges = strongEdges(graph, threshold);
    plan = layout(graph, edges);
    pointed = null;
    tip.hidden = true;
    if (!isMoved) fit();
    redraw();
    return { edges, nodes: plan.at.size };
  }

  function fit() {
    const zoom = Math.min(1.25, Math.max(0.3, (size.height - HEAD - 40) / Math.max(1, plan.height)));
    const between = (size.width - SIDE - 110) / Math.max(1, plan.columns.length - 1);
    column = Math.min(200, Math.max(36, between)) / zoom;
    view = { zoom, x: SIDE + 30, y: HEAD + Math.max(16, (size.height - HEAD - plan.height * zoom) / 2) };
  }

  const placed = (node) => {
    const { x, y } = plan.at.get(node);
    return { x: x * column * view.zoom + view.x, y: y * view.zoom + view.y };
  };

  function draw(context, width, height) {
    const isOther = size.width !== width || size.height !== height;
    size = { width, height };
    if (!plan) return;
    if (isOther && !isMoved) fit();
    context.font = "11px system-ui, sans-serif";
    bands(context, width);
    for (let edge = edges - 1; edge >= 0; edge -= 1) line(context, edge);
    for (const node of plan.at.keys()) dot(context, node);
    heads(context, width, height);
  }

  function bands(context, width) {
    plan.bands.forEach(({ top, height }, row) => {
      if (row % 2) return;
      context.fillStyle = color("ground");
      context.fillRect(0, (top - 13) * view.zoom + view.y, width, (height + 26) * view.zoom);
    });
  }

  function heads(context, width, height) {
    context.fillStyle = color("panel");
    context.fillRect(0, 0, width, HEAD);
    context.fillRect(0, 0, SIDE, height);
    context.textBaseline = "middle";
    context.textAlign = "center";
    const room = Math.max(30, column * view.zoom - 6);
    for (const { name, x: at } of plan.columns) {
      const x = at * column * view.zoom + view.x;
      if (x < SIDE - 10) continue;
      const [path, last] = split(names.get(name));
      context.fillStyle = color("quiet");
      context.fillText(fitted(context, path, room), x, 10);
      context.fillStyle = color("text");
      context.fillText(fitted(context, last, room), x, 24);
    }
    context.textAlign = "right";
    plan.bands.forEach(({ position, top, height: tall }) => {
      const [from, to] = [top * view.zoom + view.y, (top + tall) * view.zoom + view.y];
      if (to < HEAD || from > height) return;
      const y = Math.max(Math.min((from + to) / 2, height - 12), Math.min(HEAD + 12, to)); // in sight while its band is
      const text = position < 0 ? "all" : graph.tokens[position] === undefined ? `at ${position}` : `${position} ${token(graph.tokens[position])}`;
      context.fillStyle = color("text");
      context.fillText(fitted(context, text, SIDE - 12), SIDE - 6, y);
    });
  }

  function touches(edge) {
    if (!pointed) return null;
    if (pointed.edge !== undefined) return pointed.edge === edge;
    return graph.edges.source[edge] === pointed.node || graph.edges.target[edge] === pointed.node;
  }

  function line(context, edge) {
    const [from, to] = [placed(graph.edges.source[edge]), placed(graph.edges.target[edge])];
    const strength = graph.edges.strength[edge];
    const touched = touches(edge);
    const bend = (to.x - from.x) * 0.45;
    context.strokeStyle = color(strength < 0 ? "negative" : "positive");
    const share = Math.abs(strength) / strongest;
    context.globalAlpha = touched === null ? 0.15 + 0.65 * Math.sqrt(share) : touched ? 0.95 : 0.06;
    context.lineWidth = 0.7 + 6 * share ** 0.7 * Math.max(0.6, Math.min(1.5, view.zoom));
    context.setLineDash(strength < 0 ? [5, 3] : []);
    context.beginPath();
    context.moveTo(from.x, from.y);
    context.bezierCurveTo(from.x + bend, from.y, to.x - bend, to.y, to.x, to.y);
    context.stroke();
    context.setLineDash([]);
    context.globalAlpha = 1;
  }

  function dot(context, node) {
    const { x, y } = placed(node);
    const kind = graph.kinds[graph.nodes.kind[node]];
    const radius = Math.max(2, Math.min(7, 5.5 * view.zoom + 1));
    const isPointed = pointed?.node === node;
    context.fillStyle = kind === "component" ? color("accent") : kind === "output" ? color("text") : color("canvas");
    context.strokeStyle = kind === "component" || kind === "output" ? color("canvas") : color("quiet");
    context.lineWidth = 1.2;
    context.beginPath();
    if (kind === "component" || kind === "output") context.arc(x, y, radius, 0, 7);
    else context.rect(x - radius + 0.5, y - radius + 0.5, 2 * radius - 1, 2 * radius - 1);
    context.fill();
    context.stroke();
    if (marked.has(nodeKey(graph, node))) ring(context, x, y, radius + 2.2, "shade");
    if (isPointed) ring(context, x, y, radius + 2, "text");
    if (view.zoom < 0.55 && !isPointed) return;
    context.fillStyle = color(isPointed ? "text" : "quiet");
    context.textAlign = "left";
    context.textBaseline = "middle";
    context.fillText(fitted(context, visible(nodeLabel(graph, node)), 70), x + radius + 4, y);
  }

  function ring(context, x, y, radius, name) {
    context.strokeStyle = color(name);
    context.lineWidth = 1.5;
    context.beginPath();
    context.arc(x, y, radius, 0, 7);
    context.stroke();
  }

  function under(x, y) {
    let [best, nearest] = [null, 100];
    for (const node of plan.at.keys()) {
      const place = placed(node);
      const distance = (place.x - x) ** 2 + (place.y - y) ** 2;
      if (distance < nearest) [nearest, best] = [distance, { node }];
    }
    return best ?? edgeUnder(x, y);
  }

  function edgeUnder(x, y) {
    for (let edge = 0; edge < edges; edge += 1) {
      const [from, to] = [placed(graph.edges.source[edge]), placed(graph.edges.target[edge])];
      if (x < from.x - 4 || x > to.x + 4 || y < Math.min(from.y, to.y) - 5 || y > Math.max(from.y, to.y) + 5) continue;
      for (let at = 0; at <= 24; at += 1) {
        const t = at / 24;
        const [u, a, b] = [1 - t, 3 * (1 - t) * t, t ** 3];
        const px = u ** 3 * from.x + a * u * (from.x + (to.x - from.x) * 0.45) + a * t * (to.x - (to.x - from.x) * 0.45) + b * to.x;
        const py = (u ** 3 + a * u) * from.y + (a * t + b) * to.y;
        if (Math.abs(px - x) < 7 && Math.abs(py - y) < 5) return { edge };
      }
    }
    return null;
  }

  function said({ node, edge }) {
    if (edge !== undefined) {
      const { source, target, strength, signed } = graph.edges;
      return `${full(source[edge])} → ${full(target[edge])}\ncarries ${percent(strength[edge])} of the output; attribution ${number(signed[edge])}`;
    }
    const { value, importance, through, entering } = graph.nodes;
    const label = graph.labels[`${graph.places[graph.nodes.place[node]]}:${graph.nodes.index[node]}`];
    const told = [`passes ${percent(through[node])} of the output`, `value ${number(value[node])}, importance ${number(importance[node])}, entering ${number(entering[node])}`];
    return [full(node), label && visible(label), ...told].filter(Boolean).join("\n");
  }

  function full(node) {
    const { place, kind, index, position } = graph.nodes;
    const name = graph.kinds[kind[node]];
    const own = index[node] < 0 ? ` (${name})` : `:${index[node]}`;
    const output = name === "output" && graph.output_names[index[node]] !== undefined ? ` ${token(graph.output_names[index[node]])}` : "";
    const where = position[node] < 0 ? "" : ` @ ${position[node]}${graph.tokens[position[node]] === undefined ? "" : ` ${token(graph.tokens[position[node]])}`}`;
    return visible(graph.places[place[node]]) + own + output + where;
  }

  const off = [onTheme(redraw)];
  const moves = { view: () => view, zoom, fit: whole, move };

  function whole() {
    isMoved = false;
    fit();
    redraw();
  }

  function zoom(factor, x = size.width / 2, y = size.height / 2) {
    const after = Math.min(6, Math.max(0.05, view.zoom * factor));
    const ratio = after / view.zoom;
    isMoved = true;
    view = { zoom: after, x: x - (x - view.x) * ratio, y: y - (y - view.y) * ratio };
    redraw();
  }

  function move(x, y) {
    isMoved = true;
    view = { ...view, x, y };
    redraw();
  }

  function point(x, y) {
    const found = plan ? under(x, y) : null;
    tip.hidden = !found;
    if (found) {
      tip.textContent = said(found);
      tip.style.left = `${Math.max(4, Math.min(x + 14, size.width - 340))}px`;
      tip.style.top = `${Math.min(y + 14, size.height - 80)}px`;
    }
    canvas.style.cursor = found?.node !== undefined ? "pointer" : "grab";
    if (JSON.stringify(found) === JSON.stringify(pointed)) return;
    pointed = found;
    redraw();
  }

  function click(x, y) {
    const found = under(x, y);
    if (found?.node === undefined || graph.kinds[graph.nodes.kind[found.node]] !== "component") return;
    open(graph.places[graph.nodes.place[found.node]], graph.nodes.index[found.node]);
  }

  return { canvas, show, moves, point, click, leave: () => ((pointed = null), (tip.hidden = true), redraw()), stop: () => (stop(), off.forEach((one) => one())) };
}
