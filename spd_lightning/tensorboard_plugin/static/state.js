/* What is looked at, in the address, so that a link opens the same view. */

const PLUGIN = "spd_components";
const PREFIX = `p.${PLUGIN}.`;
const listeners = new Set();
let present = {};

/** The window whose address people see: TensorBoard's, or this one where the page stands alone. */
export function host() {
  try {
    if (window.parent !== window && window.parent.location.origin === window.location.origin) return window.parent;
  } catch {
    // TensorBoard itself inside a page of somebody else's
  }
  return window;
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function read() {
  const parts = host().location.hash.slice(1).split("&");
  const found = {};
  for (const part of parts) {
    const at = part.indexOf("=");
    const name = decoded(part.slice(0, at));
    if (at > 0 && name.startsWith(PREFIX)) found[name.slice(PREFIX.length)] = decoded(part.slice(at + 1));
  }
  return { mine: parts[0] === PLUGIN || host() === window, found };
}

function address() {
  const { location } = host();
  const kept = Object.entries(present).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const pairs = kept.map(([name, value]) => `${encodeURIComponent(PREFIX + name)}=${encodeURIComponent(value)}`);
  return `${location.pathname}${location.search}#${[PLUGIN, ...pairs].join("&")}`;
}

/** What is looked at now. */
export const state = () => present;

/** Look at something else: these entries change, the others stay. `replace` leaves no step to go back to. */
export function go(changes, { replace = false } = {}) {
  const before = JSON.stringify(present);
  present = Object.fromEntries(
    Object.entries({ ...present, ...changes }).filter(([, value]) => value !== undefined && value !== null && value !== ""),
  );
  if (JSON.stringify(present) === before) return;
  const { history } = host();
  history[replace ? "replaceState" : "pushState"](history.state, "", address());
  tell();
}

/** A link's address for these changes. */
export function href(changes) {
  const kept = present;
  present = { ...present, ...changes };
  const link = address();
  present = kept;
  return link;
}

function tell() {
  for (const listener of listeners) listener(present);
}

/** Be told whenever something else is looked at. */
export function onChange(listener) {
  listeners.add(listener);
}

/** Begin with what the address says, and follow it. */
export function start() {
  present = read().found;
  let wasMine = read().mine;
  const follow = () => {
    const { mine, found } = read();
    const isBack = mine && !wasMine;
    wasMine = mine;
    if (!mine) return; // another tab of TensorBoard's
    if (isBack) window.focus(); // keys are meant for this page again
    if (!Object.keys(found).length && Object.keys(present).length) {
      host().history.replaceState(host().history.state, "", address()); // back from another tab
    } else if (JSON.stringify(found) !== JSON.stringify(present)) {
      present = found;
      tell();
    }
  };
  host().addEventListener("hashchange", follow);
  host().addEventListener("popstate", follow);
}
