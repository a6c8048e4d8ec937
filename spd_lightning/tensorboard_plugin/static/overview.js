/* Overview: what the run found, the network as a picture, and the list of its components. */

import { ask } from "./api.js";
import { meter } from "./charts.js";
import { h, note, put, select } from "./dom.js";
import { count, number, percent, shortNames, visible } from "./format.js";
import { LongList } from "./list.js";
import { networkMap } from "./network_map.js";
import { go, state } from "./state.js";
import { statistics } from "./statistics.js";

/* What a column is sorted by, its title, its kind, its width, and the analysis that it needs. */
const COLUMNS = [
  ["place", "component", "", "minmax(150px, 260px)"],
  ["label", "label", "", "minmax(120px, 1fr)", "labels"],
  ["", "log scale", "quiet", "minmax(76px, 220px)"],
  ["density", "density", "number", "90px"],
  ["mean", "mean import.", "number", "96px", "harvest"],
  ["firings", "firings", "number", "84px", "harvest"],
  ["mechanism", "mechanism", "number", "84px", "mechanisms"],
];
const places = new Map();
const CHOICES = ["alive", "search", "sort", "order", "step"];

/** What the list is asked for: the selection, with the order of the columns. */
function choices() {
  return { call: state().column, mechanism: state().group, ...Object.fromEntries(CHOICES.map((name) => [name, state()[name]])) };
}

/** The columns that have something to say. */
const columns = (has) => COLUMNS.filter(([, , , , needs]) => !needs || has[needs]);

/** The cells of a component in the list. */
function cells(row, names, shown) {
  const dead = row.alive ? "" : "dead";
  const all = [
    h("span", { class: `foreign ${dead}`, title: visible(`${row.call}:${row.component}`) }, `${names.get(row.call) ?? visible(row.call)}:${row.component}`),
    h("span", { class: "foreign", title: visible(row.label) }, visible(row.label)),
    meter(logarithmic(row.density)),
    h("span", { class: `number ${dead}` }, row.alive ? percent(row.density) : "dead"),
    h("span", { class: "number" }, number(row.mean)),
    h("span", { class: "number" }, count(row.firings)),
    h("span", { class: "number" }, row.mechanism ?? "–"),
  ];
  return all.filter((_, at) => shown.includes(COLUMNS[at]));
}

/** Densities span decades: from one in a hundred thousand to all. */
const logarithmic = (share) => (share > 0 ? Math.max(0.02, 1 + Math.log10(share) / 5) : 0);

export function showOverview(parent, run) {
  const stats = h("div", { class: "stats" });
  const picture = h("div", {});
  const filters = h("div", { class: "filters" });
  const head = h("div", { class: "list-head" });
  const list = h("div", { class: "list components" }, head);
  put(parent, stats, picture, filters, list);
  let [summary, drawn, rows, asked, alive] = [null, null, null, "", true];
  let names = new Map();

  const open = (row) => go({ view: "component", call: row.call, component: row.component });

  async function begin() {
    try {
      summary = await ask("run", { run: run.id });
    } catch (problem) {
      put(parent, note(problem));
      return;
    }
    if (!alive) return;
    names = shortNames(summary.sites.map((site) => site.call));
    const shown = columns(summary.has);
    list.style.setProperty("--columns", shown.map(([, , , width]) => width).join(" "));
    put(stats, statistics(summary));
    rows = new LongList({
      load: (first, most) => ask("components", { run: run.id, ...choices(), first, count: most }),
      draw: (row) => cells(row, names, shown),
      open,
      label: "components",
      empty: "No component is like that.",
    });
    rows.element.addEventListener("loaded", told);
    rows.element.addEventListener("loaded", () => rows.back(places.get(here())), { once: true });
    list.append(rows.element);
    update();
  }

  /** What the list shows: coming back to it, one finds it where it was left. */
  const here = () => JSON.stringify([run.id, choices()]);

  function told() {
    filters.querySelector(".total")?.replaceChildren(`${count(rows.total)} components`);
  }

  async function map() {
    const { step, group: mechanism, column: call } = state();
    let found;
    try {
      found = await ask("map", { run: run.id, step });
    } catch (problem) {
      drawn?.stop();
      drawn = null;
      put(picture, note(problem));
      return;
    }
    if (!alive) return;
    const marked = mechanism ? members(found, Number(mechanism)) : null;
    const onSite = (one) => go({ column: one === state().column ? "" : one });
    const onComponent = (one, component) => go({ view: "component", call: one, component });
    drawn?.stop();
    drawn = networkMap({ map: found, sites: step ? counted(found) : summary.sites, names, marked, call, onSite, onComponent });
    put(picture, drawn.element);
  }

  function bar() {
    const { column = "", alive: which = "alive", group, step } = state();
    const sites = [["", "all sites"], ...summary.sites.map((site) => [site.call, names.get(site.call)])];
    const kinds = [["alive", "alive"], ["dead", "dead"], ["all", "alive and dead"]];
    put(
      filters,
      select("site", sites, column, (value) => go({ column: value })),
      select("alive or dead", kinds, which, (value) => go({ alive: value === "alive" ? "" : value })),
      summary.has.mechanisms && mechanismBox(group),
      state().search && h("button", { onclick: () => go({ search: "" }), title: "everything" }, `“${visible(state().search)}”  ×`),
      h("span", { class: "total quiet" }, rows ? `${count(rows.total)} components` : ""),
      steps(summary.validations.density, step),
      summary.problems.map((problem) => note({ error: problem, kind: "problem" })),
    );
    const { sort = "density", order } = state();
    put(head, columns(summary.has).map(([key, title, kind]) => heading(key, title, kind, sort, order)));
  }

  function heading(key, title, kind, sort, order) {
    if (!key) return h("span", { class: kind }, title);
    const falls = sort === key && (order ?? (kind ? "down" : "up")) === "down";
    const next = sort === key ? (falls ? "up" : "down") : "";
    const sorted = sort === key ? (falls ? "descending" : "ascending") : undefined;
    const sign = sort === key ? (falls ? " ↓" : " ↑") : "";
    return h("button", { class: kind, "aria-sort": sorted, onclick: () => go({ sort: key, order: next }, { replace: true }) }, title + sign);
  }

  function update() {
    if (!summary) return;
    bar();
    const now = JSON.stringify(choices());
    if (asked !== now) {
      if (asked) rows.reload();
      asked = now;
    }
    map();
  }

  function stop() {
    alive = false;
    if (asked) places.set(JSON.stringify([run.id, JSON.parse(asked)]), rows.left());
    rows?.stop();
    drawn?.stop();
  }

  begin();
  return { update, stop };
}

/** A field for the number of a mechanism; empty for all. */
function mechanismBox(mechanism) {
  const box = h("input", {
    type: "number", min: 0, value: mechanism ?? "", placeholder: "mechanism", "aria-label": "mechanism", style: { width: "104px" },
    onchange: () => go({ group: box.value }),
  });
  return box;
}

function members(map, mechanism) {
  const found = new Set();
  map.arrays.mechanism.forEach((one, at) => one === mechanism && found.add(at));
  return found;
}

/** Live components by site call, as the arrays of a step have them. */
function counted(map) {
  let at = 0;
  return map.counts.map((all) => {
    const part = map.arrays.density.subarray(at, at + all);
    at += all;
    return { count: all, alive: part.reduce((sum, share) => sum + (share > 0), 0) };
  });
}

/** A slider over saved validations; its right end is the run's test. */
export function steps(saved, step) {
  if (!saved.length) return null;
  const at = step === undefined ? saved.length : Math.max(0, saved.indexOf(Number(step)));
  const text = (place) => (place === saved.length ? "test" : `step ${count(saved[place])}`);
  const told = h("output", { class: "number", style: { minWidth: "84px" } }, text(at));
  const slider = h("input", {
    type: "range", min: 0, max: saved.length, step: 1, value: at, "aria-label": "step", class: "steps",
    oninput: () => (told.textContent = text(Number(slider.value))),
    onchange: () => go({ step: saved[Number(slider.value)] ?? "" }, { replace: true }),
  });
  const move = (by) => (event) => {
    event.preventDefault();
    go({ step: saved[Math.min(saved.length, Math.max(0, at + by))] ?? "" }, { replace: true });
  };
  return h("label", { "data-arrows": "steps", onleft: move(-1), onright: move(1) }, "saved validations", slider, told);
}
