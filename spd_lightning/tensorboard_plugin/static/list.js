/* A long list: only the rows in sight are in the page, and only their pages are asked for. */

import { h, note, put } from "./dom.js";

const ROW = 28;
const PAGE = 100;
const TALLEST = 30_000_000;

/**
 * A list of rows of equal height.
 *
 * `load(first, count)` gives `{total, rows}`; `draw(row, number)` gives the cells of a row; `open(row)` is what a click or
 * Enter does. `select(number)` marks a row and brings it into sight.
 */
export class LongList {
  constructor({ load, draw, open, label, empty }) {
    Object.assign(this, { load, draw, open, empty });
    this.space = h("div", { class: "rows-space" });
    this.element = h("div", { class: "rows", tabindex: "0", role: "listbox", "aria-label": label }, this.space);
    this.element.addEventListener("scroll", () => this.show());
    this.element.addEventListener("keydown", (event) => this.press(event));
    this.observer = new ResizeObserver(() => this.show());
    this.observer.observe(this.element);
    this.selected = -1;
    this.reload();
  }

  /** Ask for everything anew, from the top. */
  async reload() {
    this.pages = new Map();
    this.total = 0;
    this.shown = new Map();
    this.selected = -1;
    const round = (this.round = (this.round ?? 0) + 1);
    this.element.scrollTop = 0;
    await this.page(0, round);
  }

  async page(number, round = this.round) {
    if (this.pages.has(number)) return;
    this.pages.set(number, null);
    try {
      const { total, rows } = await this.load(number * PAGE, PAGE);
      if (round !== this.round) return;
      this.total = total;
      this.pages.set(number, rows);
      this.space.style.height = `${Math.min(total * ROW, TALLEST)}px`;
      if (!total) put(this.space, h("p", { class: "note missing" }, this.empty));
      else this.show(true);
      this.element.dispatchEvent(new CustomEvent("loaded"));
    } catch (problem) {
      if (round !== this.round) return;
      this.pages.delete(number);
      put(this.space, note(problem));
    }
  }

  row(number) {
    return this.pages.get(Math.floor(number / PAGE))?.[number % PAGE];
  }

  /** Put the rows into the page that are in sight, and a few around them. */
  show(anew = false) {
    if (!this.total) return;
    const first = Math.max(0, Math.floor(this.element.scrollTop / ROW) - 8);
    const last = Math.min(this.total, Math.ceil((this.element.scrollTop + this.element.clientHeight) / ROW) + 8);
    if (anew) this.shown.clear();
    for (const [number, element] of this.shown) {
      if (number >= first && number < last) continue;
      element.remove();
      this.shown.delete(number);
    }
    for (let number = first; number < last; number += 1) {
      const present = this.shown.get(number);
      if (present && !present.classList.contains("waiting")) continue;
      present?.remove();
      this.shown.set(number, this.element_of(number));
    }
    this.space.replaceChildren(...[...this.shown.entries()].sort(([a], [b]) => a - b).map(([, element]) => element));
    for (let page = Math.floor(first / PAGE); page <= Math.floor(Math.max(first, last - 1) / PAGE); page += 1) this.page(page);
  }

  element_of(number) {
    const row = this.row(number);
    const classes = `row${row ? "" : " waiting"}${number === this.selected ? " selected" : ""}`;
    const style = { top: `${number * ROW}px` };
    if (!row) return h("div", { class: classes, style, role: "option" });
    const open = () => {
      this.selected = number;
      this.open(row, number);
    };
    const cells = this.draw(row, number);
    return h("div", { class: classes, style, role: "option", "aria-selected": number === this.selected, onclick: open }, cells);
  }

  select(number) {
    if (!this.total) return;
    this.selected = Math.min(this.total - 1, Math.max(0, number));
    const top = this.selected * ROW;
    const { scrollTop, clientHeight } = this.element;
    if (top < scrollTop) this.element.scrollTop = top;
    else if (top + ROW > scrollTop + clientHeight) this.element.scrollTop = top + ROW - clientHeight;
    this.show(true);
  }

  press(event) {
    const page = Math.max(1, Math.floor(this.element.clientHeight / ROW) - 1);
    const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -this.total, End: this.total };
    if (event.key in moves) this.select(this.selected + moves[event.key]);
    else if (event.key === "Enter" && this.row(this.selected)) this.open(this.row(this.selected), this.selected);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** Where one is, to come back to. */
  left() {
    return { top: this.element.scrollTop, selected: this.selected };
  }

  /** Be where one was. */
  back(place) {
    if (!place) return;
    this.selected = place.selected;
    this.element.scrollTop = place.top;
    this.show(true);
  }

  stop() {
    this.round += 1;
    this.observer.disconnect();
  }
}
