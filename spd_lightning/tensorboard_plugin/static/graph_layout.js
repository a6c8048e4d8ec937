/* Where the nodes of a graph stand: columns are places, bands are positions, and nodes of one cell are stacked. */

const STEP = 22;
const GAP = 26;
const NONE = -1;

/** Edges at least as strong as the threshold, the strongest first, as in the answer. */
export function strongEdges(graph, threshold) {
  const { strength } = graph.edges;
  let last = 0;
  while (last < strength.length && Math.abs(strength[last]) >= threshold) last += 1;
  return last;
}

/** Nodes with their places for the first `edges` edges: `x` counts columns, `y` is in pixels. */
export function layout(graph, edges) {
  const { nodes } = graph;
  const seen = new Set();
  nodes.kind.forEach((kind, node) => graph.kinds[kind] === "output" && seen.add(node));
  for (let edge = 0; edge < edges; edge += 1) {
    seen.add(graph.edges.source[edge]);
    seen.add(graph.edges.target[edge]);
  }
  const shown = [...seen].sort((a, b) => a - b);
  const unique = (column) => [...new Set(shown.map((node) => column[node]))].sort((a, b) => a - b);
  const columns = unique(nodes.place);
  const positions = unique(nodes.position).filter((one) => one !== NONE);
  const last = positions.at(-1) ?? NONE;
  const bands = positions.length ? positions : [NONE];
  const cells = new Map();
  for (const node of shown) {
    const band = nodes.position[node] === NONE ? last : nodes.position[node];
    const key = `${nodes.place[node]} ${band}`;
    cells.set(key, [...(cells.get(key) ?? []), node]);
  }
  const heights = bands.map((band) => Math.max(1, ...columns.map((place) => cells.get(`${place} ${band}`)?.length ?? 0)) * STEP);
  const tops = heights.map((_, at) => heights.slice(0, at).reduce((sum, one) => sum + one + GAP, 0));
  const at = new Map();
  columns.forEach((place, column) => {
    bands.forEach((band, row) => {
      const stack = cells.get(`${place} ${band}`) ?? [];
      const from = tops[row] + (heights[row] - stack.length * STEP) / 2;
      stack.forEach((node, number) => at.set(node, { x: column, y: from + (number + 0.5) * STEP }));
    });
  });
  return {
    at,
    columns: columns.map((place, column) => ({ name: graph.places[place], x: column })),
    bands: bands.map((position, row) => ({ position, top: tops[row], height: heights[row] })),
    height: tops.at(-1) + heights.at(-1),
  };
}

/** What a node is called on the picture. */
export function nodeLabel(graph, node) {
  const { kind, index } = graph.nodes;
  const name = graph.kinds[kind[node]];
  if (name === "output" && graph.output_names[index[node]] !== undefined) return graph.output_names[index[node]];
  return index[node] === NONE ? name : String(index[node]);
}

/** The key of a node in the nodes of circuits. */
export const nodeKey = (graph, node) => `${graph.places[graph.nodes.place[node]]}:${graph.nodes.index[node]}@${graph.nodes.position[node]}`;
