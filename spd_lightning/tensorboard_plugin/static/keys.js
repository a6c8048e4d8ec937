/* The keyboard. */

import { h } from "./dom.js";
import { go, host, state } from "./state.js";

const SAID = [
  ["/", "search components"],
  ["1 … 6", "the views"],
  ["↑ ↓ Page Home End", "go through a list"],
  ["Enter", "open what is selected"],
  ["← →", "the neighbouring component, mechanism or step"],
  ["+ − 0", "zoom a picture in, out, and back"],
  ["Esc", "leave the search; back to the overview"],
  ["?", "this list"],
];

function isTyping(target) {
  return target instanceof HTMLInputElement || target instanceof HTMLSelectElement || target instanceof HTMLTextAreaElement;
}

/** Listen. Arrows go to the elements with `data-arrows`, as events `left`, `right`, `up` and `down`; zooming likewise; the first that prevents the default has taken the key. */
export function startKeys(views) {
  const rows = SAID.map(([key, what]) => h("tr", {}, h("td", {}, key.split(" ").map((one) => [h("kbd", {}, one), " "])), h("td", {}, what)));
  const dialog = h("dialog", { id: "keys", onclick: () => dialog.close() }, h("h3", {}, "Keyboard"), h("table", {}, rows));
  document.body.append(dialog);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || dialog.open) return;
    if (isTyping(event.target)) typed(event);
    else pressed(event, views, dialog);
  });
  returnFocus();
}

/** A click on TensorBoard's own tab takes the keys out of this page, also where the tab is open already; fetch them back. */
function returnFocus() {
  const outer = host();
  if (outer === window) return;
  const isShown = () => window.frameElement?.getClientRects().length;
  const clicked = ({ target }) => target.closest?.("[role=tab]") && setTimeout(() => isShown() && window.focus());
  outer.document.addEventListener("click", clicked, true); // TensorBoard lets clicks on tabs go no further
}

function typed(event) {
  if (event.target.id !== "search") return;
  if (event.key === "Escape") event.target.blur();
  else if (event.key === "Enter" || event.key === "ArrowDown") intoList();
}

const ARROWS = { ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down", "+": "nearer", "=": "nearer", "-": "farther", 0: "whole" };

/** Go on in the list of the view, if it has one. */
function intoList() {
  const rows = document.querySelector(".rows");
  rows?.focus();
  rows?.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowDown" }));
  return rows;
}

function pressed(event, views, dialog) {
  const view = views.find(({ key }) => key === event.key);
  if (event.key === "/") document.querySelector("#search").focus();
  else if (event.key === "?") dialog.showModal();
  else if (event.key === "Escape" && (state().view ?? "overview") !== "overview") go({ view: "overview" });
  else if (view) go({ view: view.name });
  else if (event.key in ARROWS) {
    const takers = [...document.querySelectorAll("[data-arrows]")];
    const isTaken = takers.some((one) => !one.dispatchEvent(new CustomEvent(ARROWS[event.key], { cancelable: true })));
    if (!isTaken) {
      if (event.key !== "ArrowDown" || !intoList()) return;
    }
  } else return;
  event.preventDefault();
}
