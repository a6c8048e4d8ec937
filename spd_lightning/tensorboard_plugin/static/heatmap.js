/* Heat map: how important each component is, for each probe or position. */

import { ask } from "./api.js";
import { legend } from "./charts.js";
import { h, note, put, select } from "./dom.js";
import { count, shortNames, visible } from "./format.js";
import { heatCanvas } from "./heat_canvas.js";
import { steps } from "./overview.js";
import { go, state } from "./state.js";

const IN_USE = 0.1;
const TOGETHER = 4;
const ALL = "*";

export function showHeatMap(parent, run) {
  const filters = h("div", { class: "filters" });
  const place = h("div", { class: "maps" });
  put(parent, filters, place);
  let [round, drawn, asked] = [0, [], ""];

  function empty() {
    for (const one of drawn) one.stop();
    drawn = [];
    put(place);
  }

  async function update() {
    const now = JSON.stringify([state().step, state().map, state().columns, state().columns_by]);
    if (now === asked) return;
    asked = now;
    const mine = (round += 1);
    try {
      const summary = await ask("run", { run: run.id });
      const saved = summary.validations.importances;
      if (mine === round) await fill(summary, saved, mine);
    } catch (problem) {
      if (mine !== round) return;
      empty();
      put(place, note(problem));
    }
  }

  async function fill(summary, saved, mine) {
    put(filters, steps(saved, state().step));
    const found = await ask("heatmaps", { run: run.id, step: state().step });
    if (mine !== round) return;
    const calls = found.calls.map((one) => one.call);
    const names = shortNames(calls);
    const whole = calls.length > 1 && calls.length <= TOGETHER;
    const chosen = calls.includes(state().map) ? state().map : whole ? ALL : calls[0];
    const options = [...(whole ? [[ALL, "all sites"]] : []), ...calls.map((call) => [call, names.get(call)])];
    const rows = found.rows === "positions" ? "positions" : "probes";
    put(
      filters,
      select("site", options, chosen, (value) => go({ map: value === options[0][0] ? "" : value })),
      steps(saved, state().step),
      h("span", { class: "quiet" }, `${rows} × components, step ${count(found.step)}`),
      select("order", [["", "matched order"], ["number", "by number"]], state().columns_by ?? "", (value) => go({ columns_by: value })),
      h("label", {}, h("input", { type: "checkbox", checked: state().columns === "all", onchange: (event) => go({ columns: event.target.checked ? "all" : "" }) }), "unused components too"),
      h("span", { class: "gap" }),
      h("span", { class: "quiet" }, "importance"),
      legend(),
    );
    empty();
    const shown = chosen === ALL ? calls : [chosen].filter(Boolean);
    if (!shown.length) put(place, note({ error: "There are no heat maps in the file.", kind: "missing" }));
    await Promise.all(shown.map((call) => one(call, mine)));
  }

  async function one(call, mine) {
    const stage = h("div", { class: "stage" });
    place.append(stage);
    try {
      const answer = await ask("heatmap", { run: run.id, call, step: state().step });
      if (mine !== round) return;
      const map = inUse(answer, state().columns === "all", state().columns_by === "number");
      const [rows, columns] = map.values.shape;
      const cut = `${count(rows)} × ${count(columns)}${rows < answer.n_rows || columns < answer.count ? ` of ${count(answer.n_rows)} × ${count(answer.count)}` : ""}`;
      const open = (component) => go({ view: "component", call, component });
      drawn.push(heatCanvas(stage, map, { title: `${visible(call)}   ${cut}`, open }));
    } catch (problem) {
      if (mine === round) put(stage, note(problem));
    }
  }

  update();
  return { update, stop: () => ((round += 1), empty()) };
}

/** The columns of components whose importance exceeds 0.1 somewhere, or all; in the picture's order, or by number. */
function inUse({ arrays: { values, order }, rows, row_labels }, all, byNumber) {
  const [height, width] = values.shape;
  const kept = [];
  for (let column = 0; column < width; column += 1) {
    let row = 0;
    while (!all && row < height && values[row * width + column] <= IN_USE) row += 1;
    if (row < height) kept.push(column);
  }
  if (byNumber) kept.sort((a, b) => order[a] - order[b]);
  const shown = new Float32Array(height * kept.length);
  for (let row = 0; row < height; row += 1) kept.forEach((column, at) => (shown[row * kept.length + at] = values[row * width + column]));
  shown.shape = [height, kept.length];
  return { values: shown, order: kept.map((column) => order[column]), rows, row_labels };
}
