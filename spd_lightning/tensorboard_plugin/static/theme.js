/* Light and dark: TensorBoard's own choice, or the system's where the page stands alone; colours for canvases. */

import { host } from "./state.js";

const listeners = new Set();
const system = matchMedia("(prefers-color-scheme: dark)");

function isDark() {
  const outer = host();
  if (outer === window) return system.matches;
  return outer.document.body.classList.contains("dark-mode");
}

function apply() {
  const theme = isDark() ? "dark" : "light";
  if (document.documentElement.dataset.theme === theme) return;
  document.documentElement.dataset.theme = theme;
  cached.clear();
  for (const listener of listeners) listener();
}

const cached = new Map();

/** A colour of the style sheet by name, as text for a canvas. */
export function color(name) {
  if (!cached.has(name)) cached.set(name, getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim());
  return cached.get(name);
}

function channels(name) {
  const text = color(name).replace("#", "");
  return [0, 2, 4].map((at) => parseInt(text.slice(at, at + 2), 16));
}

/** A ramp of 256 colours from `empty` over `low` to `high`, three bytes each, for values from 0 to 1. */
export function ramp() {
  if (!cached.has("ramp")) {
    const stops = ["ramp-0", "ramp-1", "ramp-2", "ramp-3"].map(channels);
    const bytes = new Uint8Array(256 * 3);
    for (let at = 0; at < 256; at += 1) {
      const place = (at / 255) * (stops.length - 1);
      const low = Math.min(Math.floor(place), stops.length - 2);
      for (let channel = 0; channel < 3; channel += 1) {
        const [from, to] = [stops[low][channel], stops[low + 1][channel]];
        bytes[3 * at + channel] = Math.round(from + (to - from) * (place - low));
      }
    }
    cached.set("ramp", bytes);
  }
  return cached.get("ramp");
}

/** A colour of the ramp as text. */
export function shade(value) {
  const at = 3 * Math.round(255 * Math.min(1, Math.max(0, value)));
  const bytes = ramp();
  return `rgb(${bytes[at]},${bytes[at + 1]},${bytes[at + 2]})`;
}

/** Be told when the theme changes. */
export function onTheme(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Follow the theme from now on. */
export function startTheme() {
  apply();
  system.addEventListener("change", apply);
  const outer = host();
  if (outer !== window) new MutationObserver(apply).observe(outer.document.body, { attributes: true, attributeFilter: ["class"] });
}
