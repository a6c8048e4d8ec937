/* Questions to the server. Answers are kept until the run's files change. */

const TYPES = { float32: Float32Array, int32: Int32Array, uint8: Uint8Array };
const MOST_KEPT = 300;
const kept = new Map();
let mark = "";

/** Forget all answers: the files of the run changed. */
export function forget(newMark) {
  if (newMark === mark) return false;
  mark = newMark;
  kept.clear();
  return true;
}

/** A fault that the page shows in one line. */
export class Problem extends Error {
  constructor(error, kind) {
    super(error);
    this.error = error;
    this.kind = kind;
  }
}

function address(path, parameters) {
  const given = Object.entries(parameters ?? {}).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const query = new URLSearchParams(given.map(([name, value]) => [name, String(value)]));
  return `./${path}?${query}`;
}

async function fetched(link) {
  let answer;
  try {
    answer = await fetch(link);
  } catch {
    throw new Problem("TensorBoard does not answer", "gone");
  }
  if (answer.headers.get("Content-Type")?.startsWith("application/octet-stream")) return arrays(await answer.arrayBuffer());
  let content;
  try {
    content = await answer.json();
  } catch {
    throw new Problem(`TensorBoard answered ${answer.status}`, "gone");
  }
  if (content.error) throw new Problem(content.error, content.kind);
  return content;
}

/** Typed arrays by name, and what is said of them. */
function arrays(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const about = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const found = {};
  let at = 4 + length;
  for (const { name, type, shape } of about.arrays) {
    const size = shape.reduce((product, one) => product * one, 1);
    found[name] = new TYPES[type](buffer, at, size);
    found[name].shape = shape;
    at += Math.ceil(found[name].byteLength / 4) * 4;
  }
  return { ...about, arrays: found };
}

/** Ask; throws a `Problem`. `fresh` asks again what was asked before. */
export function ask(path, parameters, { fresh = false } = {}) {
  const link = address(path, parameters);
  if (!fresh && kept.has(link)) {
    const answer = kept.get(link);
    kept.delete(link);
    kept.set(link, answer);
    return answer;
  }
  const answer = fetched(link);
  if (!fresh) {
    kept.set(link, answer);
    answer.catch(() => kept.delete(link));
    if (kept.size > MOST_KEPT) kept.delete(kept.keys().next().value);
  }
  return answer;
}
