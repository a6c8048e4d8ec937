/* Mechanism: a group of components that act together. */

import { ask } from "./api.js";
import { weights } from "./charts.js";
import { card, h, note, put, select } from "./dom.js";
import { count, number, percent, shortNames, token, visible } from "./format.js";
import { componentLink } from "./component.js";
import { LongList } from "./list.js";
import { networkMap } from "./network_map.js";
import { go, state } from "./state.js";
import { windows } from "./windows.js";

const SORTS = [["share", "most often first"], ["size", "largest first"], ["coherence", "most coherent first"]];
const HEAD = [["no.", "number"], ["size", "number"], ["share", "number"], ["coher.", "number"], ["labels of members", ""]];
const SHOWN_MEMBERS = 200;

export function showMechanism(parent, run) {
  const groups = h("div", { class: "list mechanisms" });
  const detail = h("div", { class: "detail" });
  const left = h("div", { class: "groups" }, h("div", { class: "filters" }), groups);
  put(parent, h("div", { class: "side" }, left, detail));
  let [round, rows, sorted, drawn, summary] = [0, null, "", null, null];

  function list(sort) {
    rows?.stop();
    rows = new LongList({
      load: (first, most) => ask("mechanisms", { run: run.id, sort, first, count: most }),
      draw: (row) => [
        h("span", { class: "number" }, row.number),
        h("span", { class: "number" }, count(row.size)),
        h("span", { class: "number" }, percent(row.share)),
        h("span", { class: "number" }, number(row.coherence, 2)),
        h("span", { class: "foreign", title: row.labels.map(visible).join(" · ") }, row.labels.map(visible).join(" · ")),
      ],
      open: (row) => go({ mechanism: row.number }),
      label: "mechanisms",
      empty: "There are no mechanisms of several components.",
    });
    put(left.firstChild, select("sort", SORTS, sort, (value) => go({ groups: value === "share" ? "" : value }, { replace: true })));
    put(groups, h("div", { class: "list-head" }, HEAD.map(([text, kind]) => h("span", { class: kind }, text))), rows.element);
    rows.element.addEventListener("loaded", mark);
  }

  /** Select the row of the group that is shown, where it was loaded. */
  function mark() {
    const number = Number(state().mechanism ?? rows.row(0)?.number);
    for (const [page, some] of rows.pages) {
      const at = some?.findIndex((row) => row.number === number) ?? -1;
      if (at >= 0 && rows.selected !== page * 100 + at) rows.select(page * 100 + at);
    }
  }

  async function update() {
    const mine = (round += 1);
    const sort = SORTS.some(([key]) => key === state().groups) ? state().groups : "share";
    try {
      summary ??= await ask("run", { run: run.id });
      const first = await ask("mechanisms", { run: run.id, sort, first: 0, count: 100 });
      if (mine !== round) return;
      if (sort !== sorted) list((sorted = sort));
      else mark();
      const chosen = state().mechanism ?? first.rows[0]?.number;
      if (chosen === undefined) {
        put(detail, note({ error: "There are no mechanisms of several components.", kind: "missing" }));
        return;
      }
      const [found, map] = await Promise.all([ask("mechanism", { run: run.id, number: chosen }), ask("map", { run: run.id })]);
      if (mine === round) draw(found, map);
    } catch (problem) {
      if (mine === round) put(sorted ? detail : parent, note(problem));
    }
  }

  function draw(found, map) {
    const marked = new Set();
    map.arrays.mechanism.forEach((one, at) => one === found.number && marked.add(at));
    drawn?.stop();
    drawn = networkMap({
      map,
      sites: summary.sites.map((site) => ({ count: site.count, alive: found.sites[site.call] ?? 0 })),
      names: shortNames(map.calls),
      marked,
      told: "members",
      onComponent: (call, component) => go({ view: "component", call, component }),
    });
    put(detail, title(found), drawn.element, h("div", { class: "grid" }, cards(found, shortNames(map.calls))));
    detail.scrollTop = 0;
  }

  update();
  return { update, stop: () => ((round += 1), rows?.stop(), drawn?.stop()) };
}

function title(found) {
  const step = (by) => (event) => {
    event.preventDefault();
    go({ mechanism: Math.max(0, found.number + by) });
  };
  return h(
    "div",
    { class: "title", "data-arrows": "mechanism", onleft: step(-1), onright: step(1) },
    h("h2", {}, `Mechanism ${found.number}`),
    h(
      "span",
      { class: "chips" },
      h("span", { class: "chip" }, h("b", {}, count(found.size)), " components"),
      h("span", { class: "chip", title: "of positions on which any member is important" }, "at ", h("b", {}, percent(found.share)), " of positions"),
      h("span", { class: "chip", title: "mean share of members that are important where any is" }, "coherence ", h("b", {}, number(found.coherence, 2))),
    ),
    h("button", { onclick: () => go({ view: "overview", group: found.number }) }, "in the overview"),
  );
}

function cards(found, names) {
  const { together, members } = found;
  const most = members.length > SHOWN_MEMBERS ? `the ${SHOWN_MEMBERS} that fire most` : "those that fire most first";
  const list = card("Members", most, membersTable(members, names));
  if (together.error) return h("div", { class: "four stack" }, list, card("Together", "", note(together)));
  const tokens = (entries) =>
    weights(entries, {
      name: (one) => token(one.text),
      value: (one) => one.members,
      format: (some) => `${some} / ${together.read}`,
    });
  const ends = [
    together.reads.length > 0 && card("Strongest inputs", "cosines, added up", weights(together.reads)),
    together.writes.length > 0 && card("Direct effect on outputs", "weights, added up", weights(together.writes)),
  ];
  const examples = together.windows.length > 0 && card("Where most members are important", "tokens shaded by the largest importance", windows(together.windows));
  examples && examples.classList.add("four");
  return [
    h("div", { class: "two stack" }, list, ends),
    together.on.length > 0 && card("Fire on", `of ${together.read} members`, tokens(together.on)),
    together.before.length > 0 && card("Fire before", `of ${together.read} members`, tokens(together.before)),
    examples,
  ];
}

function membersTable(members, names) {
  return h(
    "div",
    { class: "scroll" },
    h(
      "table",
      { class: "plain tight" },
      members.slice(0, SHOWN_MEMBERS).map((row) =>
        h(
          "tr",
          {},
          h("td", {}, componentLink(row.call, row.component, names)),
          h("td", { class: "number" }, percent(row.density)),
          h("td", { class: "foreign rest", title: visible(row.label) }, visible(row.label)),
        ),
      ),
    ),
  );
}
