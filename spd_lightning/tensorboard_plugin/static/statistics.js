/* A run in numbers: its verdict, how sparse it is, what its output loses, how it holds under attack. */

import { h } from "./dom.js";
import { count, number, percent } from "./format.js";

function stat(value, title, hint) {
  return h("div", { class: "stat", title: hint }, h("b", {}, value), h("span", {}, title));
}

const of = (regimes, name) => regimes.find((one) => one.name === name);

const DISTANCES = { kl: "KL divergence", mse: "mean square" };

/** The boxes on top of the overview. */
export function statistics(run) {
  const masked = of(run.regimes, "ci_masked");
  const target = of(run.regimes, "target");
  const all = run.sites.reduce((sum, site) => sum + site.count, 0);
  const alive = run.sites.reduce((sum, site) => sum + site.alive, 0);
  return [
    stat(number(run.totals.l0), "L0", "mean number of important components, over all sites"),
    stat(`${count(alive)} / ${count(all)}`, "alive", "components that are important anywhere, of all"),
    masked?.distance !== undefined && masked.distance !== null && stat(number(masked.distance), `${DISTANCES[run.distance] ?? "distance"}, ${percent(masked.share)}`, "importances as masks: distance of the output from the target's, and as a share of ablating everything"),
    target?.cross_entropy != null && stat(`${number(target.cross_entropy)} → ${number(masked?.cross_entropy)}`, "cross entropy", "of the target, and with importances as masks"),
    run.ladder.length > 0 && ladder(run.ladder),
    h("div", { class: "stat wide" }, run.verdict.length ? run.verdict.map(finding) : h("span", {}, TOLD[run.state] ?? "no scores")),
  ];
}

const TOLD = { started: "scores come when the run ends", bare: "no scores: components without their run", finished: "no verdict" };

function finding({ good, answer, measured, advice }) {
  return h("span", { class: `chip ${good ? "good" : "bad"}`, title: advice ? `${measured}\n${advice}` : measured }, `${good ? "✓" : "✗"} ${answer}`);
}

function ladder(rungs) {
  const hint = "what a fresh adversary reaches in so many steps, as a share of ablating everything";
  const one = ({ steps, share }) => h("div", {}, h("b", {}, percent(share)), h("span", {}, `${steps} steps`));
  return h("div", { class: "stat ladder", title: hint, "aria-label": "adversary's ladder" }, rungs.map(one));
}
