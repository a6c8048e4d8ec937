/* Component: all that is known of one. */

import { ask } from "./api.js";
import { bars, histogram, image, scatter, weights } from "./charts.js";
import { card, h, note, put } from "./dom.js";
import { count, number, percent, shortNames, token, unit, visible } from "./format.js";
import { go, href, state } from "./state.js";
import { windows } from "./windows.js";

/** A link to a component's card; `names` are short names of site calls. */
export function componentLink(call, component, names) {
  const changes = { view: "component", call, component };
  const follow = (event) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    go(changes);
  };
  const name = visible(`${call}:${component}`);
  return h("a", { href: href(changes), onclick: follow, class: "foreign", title: name }, names?.has(call) ? `${names.get(call)}:${component}` : name);
}

export function showComponent(parent, run) {
  let round = 0;

  async function update() {
    const mine = (round += 1);
    const { call, component } = state();
    let found;
    try {
      const chosen = call && component !== undefined ? { call, component } : await first(run);
      if (!chosen) {
        put(parent, note({ error: "There are no components.", kind: "missing" }));
        return;
      }
      found = await ask("component", { run: run.id, call: chosen.call, component: chosen.component });
    } catch (problem) {
      if (mine === round) put(parent, note(problem));
      return;
    }
    if (mine !== round) return;
    const vectors = ask("vectors", { run: run.id, call: found.call, component: found.component }).catch((problem) => problem);
    const names = callNames(run);
    const [gotten, known] = await Promise.all([vectors, names]);
    if (mine === round) draw(parent, found, gotten, known);
  }

  update();
  return { update, stop: () => (round += 1) };
}

/** Short names of a run's site calls. */
export async function callNames(run) {
  try {
    return shortNames((await ask("run", { run: run.id })).sites.map((site) => site.call));
  } catch {
    return new Map();
  }
}

/** The component that is important most often, where none is chosen. */
async function first(run) {
  const { rows } = await ask("components", { run: run.id, call: state().call, count: 1 });
  return rows[0];
}

function draw(parent, one, vectors, names) {
  const row = one.row.error ? null : one.row;
  put(parent, title(one), h("div", { class: "grid" }, vectorCards(vectors), inside(one, row), said(one, row, names), examples(row)));
  parent.scrollTop = 0;
}

function title(one) {
  const near = (component) => component !== null && go({ component, call: one.call });
  const [before, after] = one.neighbours;
  const arrows = { "data-arrows": "component", onleft: (event) => (event.preventDefault(), near(before)), onright: (event) => (event.preventDefault(), near(after)) };
  const chips = [
    one.alive ? h("span", { class: "chip" }, "density ", h("b", {}, percent(one.density))) : h("span", { class: "chip bad" }, "dead"),
    one.mean !== null && h("span", { class: "chip" }, "mean importance ", h("b", {}, number(one.mean))),
    one.firings !== null && h("span", { class: "chip" }, "important at ", h("b", {}, count(one.firings)), " positions"),
    one.mechanism !== null && mechanism(one.mechanism),
    !one.intruder.error && h("span", { class: `chip ${one.intruder.right ? "good" : "bad"}`, title: `judge: ${visible(one.intruder.judge)}; chance ${percent(one.intruder.chance)}` }, `intruder ${one.intruder.right ? "found" : "not found"}`),
  ];
  return h(
    "div",
    { class: "title", ...arrows },
    h("button", { disabled: before === null, onclick: () => near(before), title: "the one before (←)", "aria-label": "the one before" }, "←"),
    h("button", { disabled: after === null, onclick: () => near(after), title: "the next one (→)", "aria-label": "the next one" }, "→"),
    h("h2", { class: "foreign" }, visible(`${one.call}:${one.component}`)),
    one.label && h("span", { class: "foreign label" }, visible(one.label)),
    h("span", { class: "chips" }, chips),
  );
}

function mechanism(numbered) {
  const changes = { view: "mechanism", mechanism: numbered };
  return h("a", { class: "chip", href: href(changes), onclick: (event) => (event.preventDefault(), go(changes)) }, `mechanism ${numbered}`);
}

function vectorCards(found) {
  if (found.error) return h("section", { class: "card two" }, h("h3", {}, "Read and write vector"), note(found));
  const { read, write } = found.arrays;
  const leading = found.rank > 1 ? `leading of ${found.rank}; ` : "";
  const shown = found.image ? image(read, found.image, "read vector") : bars(read, { label: "read vector", name: (at) => `input ${at}` });
  return [
    card("Reads", `${leading}${read.length} inputs, length 1`, shown),
    card("Writes", `${write.length} outputs, length ${number(found.strength)}`, bars(write, { label: "write vector", name: (at) => `output ${at}` })),
  ];
}

function inside(one, row) {
  if (!row) return wide("two", card("Importance", "", note(one.row)));
  const points = row.windows.filter((place) => place.inner !== undefined && place.importance !== undefined);
  return [
    card("Importance", "over all positions", row.histogram?.length ? histogram(row.histogram) : note({ error: "not counted", kind: "missing" })),
    card("Inner activation", "against importance", points.length ? scatter(points.map((place) => [place.inner, place.importance]), { x: "inner activation", y: "importance" }) : note({ error: "no places", kind: "missing" })),
  ];
}

function wide(span, element) {
  element.classList.add(span);
  return element;
}

function said(one, row, names) {
  return [
    row?.on?.length && wide("third", card("Fires on", "share of firings", tokens(row.on))),
    row?.before?.length && wide("third", card("Fires before", "share of firings", tokens(row.before))),
    row?.together?.length && wide("third", card("Fires together with", "share of joint positions", partners(one, row.together, names))),
    row?.reads?.length && wide("third", card("Strongest inputs", "cosine", weights(row.reads))),
    row?.writes?.length && wide("third", card("Direct effect on outputs", "per unit read", weights(row.writes))),
    !one.probes.error && wide("third", card("Important on", `${one.probes.rows === "positions" ? "positions" : "probes"}, of ${count(one.probes.of)}`, probes(one.probes))),
    wide("third", card("Ablated alone", "on the probes", ablation(one.ablation))),
  ];
}

function tokens(entries) {
  return weights(entries, {
    name: (entry) => token(entry.text ?? `token ${entry.token}`),
    value: (entry) => entry.precision ?? 0,
    format: percent,
  });
}

function partners(one, together, names) {
  return weights(
    together.filter((other) => other.site !== undefined && other.component !== undefined),
    {
      link: (other) => {
        const label = one.partners[`${other.site}:${other.component}`];
        return [componentLink(other.site, other.component, names), label && h("span", { class: "about foreign" }, visible(label))];
      },
      value: (other) => other.jaccard ?? other.share ?? 0,
      format: percent,
    },
  );
}

function ablation(found) {
  if (found.error) return note(found);
  const rank = found.distance !== undefined && h("p", {}, `moves the output by ${number(found.distance)}; ${ordinal(found.rank)} of ${count(found.of)} in its site`);
  if (!found.changes) return rank;
  const more = found.n_outputs > found.changes.length ? `; the ${found.changes.length} largest of ${count(found.n_outputs)}` : "";
  return [rank, bars(found.changes, { label: `mean change of each output${more}`, name: (at) => `output ${found.outputs[at]}`, height: 80 })];
}

function probes({ places }) {
  if (!places.length) return note({ error: "on none of them", kind: "missing" });
  const name = ({ row, label }) => (label === null ? `${row}` : token(label));
  return weights(places, { name, value: (place) => place.importance, format: unit });
}

function ordinal(place) {
  const ending = place % 100 > 10 && place % 100 < 14 ? "th" : (["th", "st", "nd", "rd"][place % 10] ?? "th");
  return `${place}${ending}`;
}

function examples(row) {
  if (!row?.windows.length) return null;
  return wide("four", card("Where it is important", "tokens shaded by importance", windows(row.windows)));
}
