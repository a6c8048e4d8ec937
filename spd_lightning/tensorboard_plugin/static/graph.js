/* Graph: how an output is made, with a circuit and its adversary's verdict beside it. */

import { ask } from "./api.js";
import { circuitCard, circuitKeys } from "./circuit.js";
import { card, h, note, put, select } from "./dom.js";
import { count, percent, shortNames, visible } from "./format.js";
import { draggable } from "./dragging.js";
import { graphCanvas } from "./graph_canvas.js";
import { go, state } from "./state.js";

const AT_FIRST = 160;
const NOTHING = { graphs: [], circuits: [] };

export function showGraph(parent, run) {
  const filters = h("div", { class: "filters" });
  const stage = h("div", { class: "stage" });
  const beside = h("div", { class: "beside" });
  put(parent, filters, h("div", { class: "side" }, stage, beside));
  let [round, drawn, shown] = [0, null, null];

  async function update() {
    const mine = (round += 1);
    const [graphs, circuits] = await Promise.all(["graphs", "circuits"].map((path) => ask(path, { run: run.id }).catch((problem) => ({ ...NOTHING, problem }))));
    if (mine !== round) return;
    const graph = chosen(graphs.graphs, state().graph);
    const same = circuits.circuits.find((one) => one.text !== null && one.text === graph?.title);
    const circuit = chosen(circuits.circuits, state().circuit) === circuits.circuits[0] && !state().circuit ? (same ?? circuits.circuits[0]) : chosen(circuits.circuits, state().circuit);
    try {
      const [picture, search] = await Promise.all([graph && ask("graph", { run: run.id, name: graph.name }), circuit && ask("circuit", { run: run.id, name: circuit.name }).catch((problem) => problem)]);
      if (mine !== round) return;
      if (picture) draw(picture, graphs.graphs, search);
      else clear(graphs.problem ?? { error: "There are no graphs.", kind: "missing" });
      side(picture, search, circuits, circuit);
    } catch (problem) {
      if (mine !== round) return;
      clear(problem);
      side(null, null, circuits, null);
    }
  }

  function clear(problem) {
    drawn?.stop();
    [drawn, shown] = [null, null];
    put(filters);
    put(stage, note(problem));
  }

  function draw(graph, graphs, search) {
    const marked = search && !search.error ? circuitKeys(search, state().found) : new Set();
    if (shown !== graph) {
      drawn?.stop();
      put(stage);
      shown = graph;
      drawn = graphCanvas(stage, graph, { open: (call, component) => go({ view: "component", call, component }) });
      draggable(stage, drawn);
    }
    const threshold = state().threshold === undefined ? usual(graph) : Number(state().threshold);
    const told = h("output", { class: "quiet number" });
    const say = (value) => {
      const { edges, nodes } = drawn.show(value, marked);
      told.textContent = `edges above ${percent(value)} · ${count(edges)} of ${count(graph.n_edges)} edges, ${count(nodes)} of ${count(graph.n_nodes)} nodes`;
    };
    put(
      filters,
      select("graph", graphs.map(({ name, title }) => [name, visible(title)]), graph.name, (name) => go({ graph: name, threshold: "" })),
      slider(graph, threshold, say),
      told,
    );
    say(threshold);
  }

  function side(graph, search, circuits, circuit) {
    const options = circuits.circuits.map(({ name, title }) => [name, visible(title)]);
    const choice = options.length > 1 && select("circuit", options, circuit?.name, (name) => go({ circuit: name, found: "" }), { style: { maxWidth: "100%" } });
    put(
      beside,
      !circuit ? card("Circuit", "", note(circuits.problem ?? { error: "There are no circuits.", kind: "missing" })) : circuitCard(search, choice, graph, shortNames(search?.calls ?? [])),
      graph?.said.length > 0 && card("In words", "", h("ol", { class: "said" }, graph.said.map((line) => h("li", { class: "foreign" }, visible(line))))),
    );
  }

  update();
  return { update, stop: () => ((round += 1), drawn?.stop()) };
}

const chosen = (all, name) => (name === undefined ? all[0] : (all.find((one) => one.name === name) ?? all[0]));

/** The threshold that leaves a picture that can be read. */
function usual(graph) {
  const { strength } = graph.edges;
  return strength.length ? Math.abs(strength[Math.min(AT_FIRST, strength.length - 1)]) : 0;
}

/** A slider over thresholds, on a logarithmic scale: the weakest edge that was sent is on its left, the strongest right. */
function slider(graph, threshold, say) {
  const { strength } = graph.edges;
  const most = Math.max(1e-12, Math.abs(strength[0] ?? 1));
  const least = Math.max(most * 1e-6, Math.abs(strength.at(-1) ?? 0));
  const value = (place) => (place <= 0 ? 0 : least * (most / least) ** (place / 1000));
  const place = threshold <= least ? 0 : Math.min(1000, Math.round((1000 * Math.log(threshold / least)) / Math.log(most / least || 2)));
  const box = h("input", {
    type: "range", min: 0, max: 1000, value: place, "aria-label": "threshold", style: { width: "220px" },
    oninput: () => say(value(Number(box.value))),
    onchange: () => go({ threshold: value(Number(box.value)).toPrecision(4) }, { replace: true }),
  });
  return h("label", {}, "threshold", box);
}
