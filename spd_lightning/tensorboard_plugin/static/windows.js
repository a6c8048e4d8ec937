/* Places where components are important, with their tokens shaded by importance. */

import { h } from "./dom.js";
import { number, token, unit, visible } from "./format.js";

function piece(text, importance, isPlace) {
  const shown = isPlace ? token(text) : visible(text);
  const classes = `token${isPlace ? " place" : ""}`;
  const style = importance > 0.005 ? { backgroundColor: `rgb(from var(--shade) r g b / ${(0.08 + 0.72 * importance).toFixed(3)})` } : {};
  return h("span", { class: classes, style, title: `importance ${unit(importance)}` }, shown);
}

/** A table of windows: what is read, how important it is, where it stands. */
export function windows(places) {
  const tokens = places.some((place) => place.texts?.length);
  const head = ["inner", "importance", tokens ? "text" : "", "example"];
  return h(
    "table",
    { class: "windows" },
    h("tr", {}, head.map((text) => h("th", { class: text === "text" ? "" : "number" }, text))),
    places.map((place) =>
      h(
        "tr",
        {},
        h("td", { class: "number" }, number(place.inner)),
        h("td", { class: "number" }, unit(place.importance)),
        h("td", { class: "text" }, tokens && h("div", { class: "window", dir: "ltr" }, pieces(place))),
        h("td", { class: "number quiet" }, where(place)),
      ),
    ),
  );
}

function pieces(place) {
  const { texts = [], importances = [], at } = place;
  const from = Math.max(0, at - 20);
  const shown = texts.slice(from, at + 16).map((text, offset) => piece(text, importances[from + offset] ?? 0, from + offset === at));
  const middle = at - from;
  return [h("span", { class: "before" }, shown.slice(0, middle)), shown[middle], h("span", { class: "after" }, shown.slice(middle + 1))];
}

function where(place) {
  const position = place.position === undefined || place.position < 0 ? "" : ` @ ${place.position}`;
  return `${place.example ?? "–"}${position}`;
}
