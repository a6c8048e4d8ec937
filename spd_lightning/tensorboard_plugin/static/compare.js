/* Compare: which components of two runs are the same. */

import { ask } from "./api.js";
import { meter } from "./charts.js";
import { card, h, note, put, select } from "./dom.js";
import { count, number, percent, shortNames, visible } from "./format.js";
import { LongList } from "./list.js";
import { go, state } from "./state.js";

export function showCompare(parent, run) {
  const filters = h("div", { class: "filters" });
  const left = h("div", { class: "beside sites" });
  const right = h("div", { class: "list pairs" });
  put(parent, filters, h("div", { class: "side" }, left, right));
  let [round, rows] = [0, null];

  async function update() {
    const mine = (round += 1);
    try {
      const { runs } = await ask("runs", {}, { fresh: true });
      const others = runs.filter((one) => one.id !== run.id);
      if (mine !== round) return;
      const other = others.find((one) => one.id === state().other) ?? likely(run, others);
      if (!other) {
        put(parent, note({ error: "There is only one run below the log directory; a second seed would stand beside it.", kind: "missing" }));
        return;
      }
      put(filters, h("span", { class: "quiet" }, "with"), select("other run", others.map((one) => [one.id, visible(one.id)]), other.id, (id) => go({ other: id, site: "" })));
      const found = await ask("compare", { a: run.id, b: other.id });
      if (mine === round) await fill(found, other, mine);
    } catch (problem) {
      if (mine === round) put(right, note(problem)), put(left);
    }
  }

  async function fill(found, other, mine) {
    const sites = found.sites.filter((one) => one.matched);
    const site = sites.find((one) => one.site === state().site)?.site ?? sites[0]?.site;
    put(left, siteCard(found, site, run, other), scores(found.scores));
    if (!site) {
      put(right, note({ error: "These runs share no site of the same size: they are not of one network.", kind: "missing" }));
      return;
    }
    const pairs = await ask("pairs", { a: run.id, b: other.id, site });
    if (mine !== round) return;
    const all = [...pairs.pairs, ...alone(pairs.alone)];
    rows?.stop();
    rows = new LongList({
      load: async (first, most) => ({ total: all.length, rows: all.slice(first, first + most) }),
      draw: cells,
      open: (pair) => pair.a && go({ view: "component", call: pair.a.call, component: pair.a.component }),
      label: "matched components",
      empty: "No component is alive.",
    });
    const told = `${visible(site)}: ${count(pairs.pairs.length)} pairs, mean cosine ${number(pairs.mean)}; ${count(pairs.alive[0])} and ${count(pairs.alive[1])} alive`;
    const cut = Math.max(...pairs.alive) > pairs.most ? `; the ${count(pairs.most)} most frequent of each` : "";
    put(
      right,
      h("p", { class: "note" }, told + cut),
      h("div", { class: "list-head" }, ["cosine", "", "", visible(run.id), "", visible(other.id)].map((text) => h("span", { class: "foreign" }, text))),
      rows.element,
    );
  }

  update();
  return { update, stop: () => ((round += 1), rows?.stop()) };
}

/** The run whose name is most like this one's: another seed or version of the same. */
function likely(run, others) {
  const shared = (one) => {
    let at = 0;
    while (at < one.id.length && one.id[at] === run.id[at]) at += 1;
    return at;
  };
  return others.reduce((best, one) => (!best || shared(one) > shared(best) ? one : best), null);
}

function alone(left) {
  return ["a", "b"].flatMap((side) => left[side].map((one) => ({ cosine: null, best: one.best, [side]: one })));
}

function cells({ cosine, best, a, b }) {
  const side = (one) => [
    h("span", { class: "number" }, one ? one.component : "–"),
    h("span", { class: "foreign", title: one && visible(one.label) }, one ? `${percent(one.density)}  ${visible(one.label)}` : h("span", { class: "quiet" }, `nothing; best ${number(best)}`)),
  ];
  return [meter(Math.max(0, cosine ?? 0)), h("span", { class: "number" }, number(cosine)), ...side(a), ...side(b)];
}

function siteCard(found, site, run, other) {
  const names = shortNames(found.sites.map((one) => one.site));
  const means = found.sites.map((one) => {
    const cell = h("td", { class: "number" }, one.matched ? "…" : "other size");
    if (one.matched) ask("pairs", { a: run.id, b: other.id, site: one.site }).then(({ mean }) => put(cell, number(mean)), () => put(cell, "–"));
    const open = h("button", { "aria-pressed": one.site === site, disabled: !one.matched, onclick: () => go({ site: one.site }) }, names.get(one.site));
    return h("tr", {}, h("td", {}, open), h("td", { class: "number" }, one.counts.map(count).join(" / ")), cell);
  });
  const only = found.only.map((sites, at) => sites.length > 0 && h("p", { class: "quiet" }, `only in ${visible([run.id, other.id][at])}: ${sites.slice(0, 6).map(visible).join(", ")}${sites.length > 6 ? ` and ${sites.length - 6} more` : ""}`));
  return card("Sites", "mean cosine of matched components", means.length > 0 && h("table", { class: "plain tight" }, h("tr", {}, ["site", "components", "cosine"].map((text, at) => h("th", { class: at ? "number" : "" }, text))), means), only);
}

function scores(entries) {
  if (!entries.length) return null;
  const row = ({ name, a, b }) => h("tr", {}, h("td", { class: "foreign" }, visible(name)), h("td", { class: "number" }, number(a)), h("td", { class: "number" }, number(b)));
  return card("Scores", "this run, the other", h("div", { class: "scroll" }, h("table", { class: "plain tight" }, entries.map(row))));
}
