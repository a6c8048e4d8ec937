/* The views, in the order of the bar; the number is the key that opens one. */

import { showCompare } from "./compare.js";
import { showComponent } from "./component.js";
import { showGraph } from "./graph.js";
import { showHeatMap } from "./heatmap.js";
import { showMechanism } from "./mechanism.js";
import { showOverview } from "./overview.js";

/** `show(parent, run)` fills a view and gives `update()`, called when the selection changes, and `stop()`. */
export const VIEWS = [
  { name: "overview", title: "Overview", key: "1", fixed: true, show: showOverview },
  { name: "component", title: "Component", key: "2", fixed: false, show: showComponent },
  { name: "mechanism", title: "Mechanism", key: "3", fixed: true, show: showMechanism },
  { name: "graph", title: "Graph", key: "4", fixed: true, show: showGraph },
  { name: "heatmap", title: "Heat map", key: "5", fixed: true, show: showHeatMap },
  { name: "compare", title: "Compare", key: "6", fixed: true, show: showCompare },
];
