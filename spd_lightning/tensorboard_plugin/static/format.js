/* Numbers and names as people read them. */

const MINUS = "−";

/** A number with about three digits; a dash where there is none. */
export function number(value, digits = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  let text;
  if (value === 0) text = "0";
  else if (size >= 1e5 || size < 1e-3) text = exponent(size, digits);
  else if (Number.isInteger(size) || size >= 1000) text = count(Math.round(size));
  else text = size.toPrecision(digits);
  return value < 0 ? MINUS + text : text;
}

function exponent(size, digits) {
  const [mantissa, power] = size.toExponential(digits - 2).split("e");
  return `${mantissa}e${power.replace("+", "").replace("-", MINUS)}`;
}

/** An importance, or another number from 0 to 1, with as many digits every time. */
export function unit(value) {
  return value === null || value === undefined ? "–" : value > 0 && value < 0.001 ? number(value, 2) : value.toFixed(3);
}

/** A whole number with thin spaces between thousands. */
export function count(value) {
  if (value === null || value === undefined) return "–";
  return String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, "\u2009");
}

/** A share as per cent. */
export function percent(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const share = 100 * value;
  const size = Math.abs(share);
  if (share === 0) return "0 %";
  if (size < 0.001) return "<0.001 %";
  const digits = size >= 99.95 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3;
  return `${share < 0 ? MINUS : ""}${size.toFixed(digits)} %`;
}

const CONTROLS = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** Text of a file with what cannot be seen made visible; so it cannot turn what stands around it. */
export function visible(text) {
  return String(text)
    .replace(/\r?\n/g, "↵")
    .replace(/\t/g, "⇥")
    .replace(CONTROLS, (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** A token: as `visible`, with blanks that can be seen at its ends. */
export function token(text) {
  return visible(text).replace(/^ +| +$/g, (blanks) => "␣".repeat(blanks.length)) || "∅";
}

/** Names without the dotted parts that all of those with dots begin with. */
export function shortNames(names) {
  const parts = names.filter((name) => name.includes(".")).map((name) => name.split("."));
  let shared = 0;
  while (parts.length > 1 && parts.every((one) => one.length > shared + 1 && one[shared] === parts[0][shared])) shared += 1;
  if (shared && parts.some((one) => /^\d/.test(one[shared]))) shared -= 1; // layers keep the word before their number
  const dropped = (name) => (name.includes(".") ? name.split(".").slice(shared).join(".") : name);
  return new Map(names.map((name) => [name, visible(dropped(name))]));
}

/** The path before a site's last part, and that part. */
export function split(name) {
  const at = name.lastIndexOf(".");
  return at < 0 ? ["", name] : [name.slice(0, at), name.slice(at + 1)];
}

/** Text that fits a width on a canvas, cut in the middle. */
export function fitted(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  let kept = text.length - 1;
  while (kept > 1) {
    const half = Math.ceil(kept / 2);
    const cut = `${text.slice(0, half)}…${text.slice(text.length - (kept - half))}`;
    if (context.measureText(cut).width <= width) return cut;
    kept -= 1;
  }
  return "…";
}
