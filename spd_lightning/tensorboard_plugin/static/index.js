/* The Components tab: a bar on top, one view below it. TensorBoard imports this module and calls `render`. */

import { ask, forget } from "./static/api.js";
import { h, note, put, select } from "./static/dom.js";
import { visible } from "./static/format.js";
import { startKeys } from "./static/keys.js";
import { go, href, onChange, start, state } from "./static/state.js";
import { startTheme } from "./static/theme.js";
import { VIEWS } from "./static/views.js";

const EVERY_MS = 5000;
let runs = [];
let shown = null;

const header = h("header");
const main = h("main", { tabindex: "-1" });

/** The run that is looked at: the one of the address, else the first. */
function present() {
  return runs.find((run) => run.id === state().run) ?? (state().run ? null : runs[0]);
}

function bar() {
  const { view = "overview" } = state();
  const run = present();
  const options = runs.map((one) => [one.id, visible(one.id === "." ? one.name : one.id)]);
  if (!run) options.unshift([state().run ?? "", `${visible(state().run ?? "no runs")} (gone)`]);
  const search = h("input", {
    type: "search", id: "search", placeholder: "Search labels or site:number  (/)", "aria-label": "search components", value: state().search ?? "", maxlength: 300,
    oninput: () => find(search.value),
  });
  const tabs = VIEWS.map(({ name, title, key }) =>
    h("a", { href: href({ view: name }), title: `${title} (${key})`, "aria-current": name === view ? "page" : undefined, onclick: (event) => follow(event, { view: name }) }, title),
  );
  put(
    header,
    select("run", options, run?.id ?? state().run ?? "", (id) => go({ ...fresh(), run: id, view })),
    h("nav", { "aria-label": "views" }, tabs),
    h("span", { class: "gap" }),
    search,
    h("button", { title: "keyboard", "aria-label": "keyboard", onclick: () => document.querySelector("#keys").showModal() }, "?"),
  );
}

/** Nothing of what was selected in another run. */
function fresh() {
  const kept = ["sort", "order", "alive"];
  return Object.fromEntries(Object.keys(state()).filter((name) => !kept.includes(name)).map((name) => [name, undefined]));
}

function follow(event, changes) {
  if (event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
  event.preventDefault();
  go(changes);
}

let waiting = 0;
function find(text) {
  clearTimeout(waiting);
  waiting = setTimeout(() => go({ search: text, view: "overview" }, { replace: true }), 150);
}

function draw() {
  const { view = "overview" } = state();
  const run = present();
  const chosen = VIEWS.find((one) => one.name === view) ?? VIEWS[0];
  for (const link of header.querySelectorAll("nav a")) link.toggleAttribute("aria-current", link.textContent === chosen.title);
  const key = JSON.stringify([run?.id, view]);
  if (shown?.key === key && shown.update) return shown.update();
  shown?.stop?.();
  main.className = chosen.fixed ? "fixed" : "";
  main.dataset.view = view;
  if (!run) {
    const told = runs.length || state().run ? `There is no run ${visible(state().run ?? "")} below the log directory (any more).` : "There are no run directories below the log directory.";
    put(main, note(told));
    shown = { key };
    return undefined;
  }
  put(main);
  shown = { key, ...chosen.show(main, run) };
  if (document.activeElement === document.body) main.focus({ preventScroll: true }); // arrows scroll it
  return undefined;
}

/** Look which runs there are; draw again where the present one changed or went. */
async function look() {
  let found;
  try {
    found = (await ask("runs", {}, { fresh: true })).runs;
  } catch (problem) {
    if (!runs.length) put(main, note(problem));
    return;
  }
  const [before, mark] = [JSON.stringify(runs.map((run) => run.id)), present()?.mark];
  const hadNone = !runs.length;
  runs = found;
  const run = present();
  const changed = forget(`${run?.id} ${run?.mark}`);
  if (before !== JSON.stringify(runs.map((one) => one.id)) || hadNone) bar();
  if (changed && (mark !== run?.mark || hadNone)) {
    shown?.stop?.();
    shown = null;
    draw();
  } else if (!shown) draw();
}

/** Fill the page. */
export async function render() {
  document.head.append(h("link", { rel: "stylesheet", href: "./static/style.css" }), h("meta", { charset: "utf-8" }));
  document.title = "Components";
  document.body.append(h("div", { id: "app" }, header, main));
  startTheme();
  start();
  startKeys(VIEWS);
  onChange(() => {
    const run = present();
    forget(`${run?.id} ${run?.mark}`);
    const box = header.querySelector("select");
    if (box && box.value !== (run?.id ?? "")) bar();
    const search = header.querySelector("#search");
    if (search && document.activeElement !== search) search.value = state().search ?? "";
    draw();
  });
  await look();
  window.focus(); // so that keys work at once
  setInterval(() => document.hidden || look(), EVERY_MS);
}
