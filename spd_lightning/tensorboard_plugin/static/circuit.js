/* A circuit: its nodes, and what becomes of the output when it is left alone, attacked, or taken away. */

import { componentLink } from "./component.js";
import { card, h, note } from "./dom.js";
import { number, percent, token, visible } from "./format.js";
import { go, state } from "./state.js";

const REGIMES = {
  alone: ["alone", "the nodes at 1, everything else at 0"],
  stochastic: ["random masks", "between each node's importance and 1, drawn"],
  attacked: ["fresh adversary", "the worst that it passes, over the nodes that could take part"],
  attacked_everywhere: ["on everything", "the same, with dead components and the unexplained part in its hands"],
  ablated: ["taken away", "the target's own weights without the nodes"],
  random: ["as many drawn", "as many nodes, drawn from those that could take part, alone"],
};
const OTHERS = { target: "the target", all_on: "all components on", nothing_on: "nothing on" };

function chosen(search, name) {
  return search.circuits.find((one) => one.name === name) ?? search.circuits[0];
}

/** Keys of the nodes of a circuit, as nodes of graphs have them. */
export function circuitKeys(search, name) {
  const circuit = chosen(search, name);
  if (!circuit) return new Set();
  const { calls, components, positions } = circuit.nodes;
  return new Set(calls.map((call, at) => `${search.calls[call]}:${components[at]}@${positions[at]}`));
}

/** The card beside a graph. `graph` names its positions. */
export function circuitCard(search, choice, graph, names) {
  if (search.error) return card("Circuit", "", choice, note(search));
  const circuit = chosen(search, state().found);
  const title = typeof search.about.title === "string" ? search.about.title : search.name;
  return card(
    "Circuit",
    graph && "ringed in the graph",
    choice || h("p", { class: "foreign" }, visible(title)),
    verdict(search, circuit),
    h("p", { class: "quiet" }, Object.entries(OTHERS).map(([key, words]) => search.outcomes[key] && `${words} ${said(search.outcomes[key])}`).filter(Boolean).join("; ")),
    circuit && nodes(search, circuit, graph, names),
  );
}

function said({ distance, right }) {
  return right === null ? number(distance) : `${number(distance)} (${percent(right)} right)`;
}

function verdict(search, circuit) {
  const unit = search.goal.distance === "mse" ? "squared error from what is wanted" : "nats from what is wanted";
  const pick = (name) => h("button", { "aria-pressed": name === circuit?.name, onclick: () => go({ found: name }), title: "ring its nodes" }, visible(name));
  return h(
    "table",
    { class: "plain verdict", "aria-label": "verdict" },
    h("tr", {}, h("th", {}, unit), search.circuits.map((one) => h("th", {}, pick(one.name)))),
    h("tr", {}, h("td", {}, "nodes"), search.circuits.map((one) => h("td", { class: "number" }, one.nodes.calls.length))),
    Object.entries(REGIMES).map(([key, [words, hint]]) =>
      search.circuits.some((one) => one.outcomes[key]) && h("tr", { title: hint }, h("td", {}, words), search.circuits.map((one) => h("td", { class: "number" }, one.outcomes[key] ? cell(one.outcomes[key]) : "–"))),
    ),
  );
}

function cell({ distance, right }) {
  return [number(distance), right !== null && h("span", { class: right > 0.5 ? "right" : "wrong", title: `${percent(right)} right` }, right > 0.5 ? " ✓" : " ✗")];
}

function nodes(search, circuit, graph, names) {
  const { calls, components, positions, importances } = circuit.nodes;
  const where = (position) => (graph?.tokens[position] === undefined ? `@ ${position}` : `@ ${position} ${token(graph.tokens[position])}`);
  return h(
    "div",
    { class: "scroll" },
    h(
      "table",
      { class: "plain tight" },
      calls.map((call, at) =>
        h("tr", {}, h("td", {}, componentLink(search.calls[call], components[at], names)), h("td", { class: "foreign quiet" }, where(positions[at])), h("td", { class: "number" }, importances[at].toFixed(2))),
      ),
    ),
  );
}
