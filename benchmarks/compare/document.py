"""The comparison as a page of tables and pictures."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.compare import growth, knobs
from benchmarks.compare.growth import Row
from benchmarks.compare.measures import MIN_COSINE, found, hyper_parameters
from benchmarks.compare.pairs import KNOBS, PAIRS, Pair
from benchmarks.reproduce.kept import kept_sections
from benchmarks.reproduce.layout import NOTHING, filled_columns
from benchmarks.reproduce.pictures import keep_small
from benchmarks.reproduce.plan import make_run, read_config
from benchmarks.reproduce.results import Result, finished, results_of, sites, spread, values
from benchmarks.reproduce.systems import Published, System
from spd_lightning.files.whole import written_whole
from spd_lightning.report import rows as report_rows
from spd_lightning.runs.verdict import pattern_contradictions

DOCUMENT, PICTURES = "comparison.md", "images/comparison"
SENSITIVITY = "How far a number may be off"
COST = "Cost against the number of components"
INTRODUCTION = """\
Written by `make compare` (`python -m benchmarks.compare`) from run directories of both methods (`runs/reproduce`,
`runs/sweeps`); nothing here is typed in. Both methods take the same trained target, see data of the same distribution,
and are scored by the same callbacks and the same code. What each run found is in its own `report.html`. With `--keep`,
what an earlier call wrote of systems that have no runs there stays.

MMCS and ML2R are those of `linear1`; below 1, ML2R says by how much components have shrunk. For APD the importance of
a component on an input is its attribution as a share of the input's largest, the same for all its sites; for SPD it is
the lower-leaky causal importance, site by site. Features of their own are those whose most important component on a
one-hot probe is no other feature's, in every site where features should have one. Errors count importances on probes
that contradict the known mechanisms by more than 0.2. Distances are mean squared differences from the target's output
on held-out data with the important components alone (SPD: importances as masks; APD: the batch's largest
attributions), and with random masks on the others (SPD: with the delta component, if its config uses one). Scrubbed
are one-hot probes with a random half of the components ablated, the important ones (above 0.1) kept, or ablated as
well, without delta component. `mlp_out` says how many features a component of the layers that write to the residual
stream serves (importance above 0.5), and how many components serve any: these matrices have the rank of their neurons,
which features share, so that a component for each feature (split) is more than there is. Trained numbers are those
that the optimiser moves, settings those that the config makes under `model` (its target aside)."""


def write(output: Path, runs: Path, sweeps: Path, cost: Sequence[Row], keep: bool = False) -> Path:
    """Write the page and its pictures.

    Args:
        output: their folder.
        runs: run directories of systems.
        sweeps: folder of all sweeps.
        cost: rows of :func:`benchmarks.compare.growth.measure`.
        keep: whether what the page said before stays where there is nothing here to say it from.

    Returns:
        The page.
    """
    lines = ["# SPD and APD on the same systems", "", INTRODUCTION, ""]
    kept = kept_sections(output / DOCUMENT) if keep else {}
    for pair in PAIRS:
        name, both = pair.spd.name, (pair.spd, pair.apd)
        stays = name in kept and not any(_results(system, seeds(pair), runs) for system in both)
        lines += kept[name] if stays else _pair(pair, runs)
    lines += _sensitivity(sweeps, output) or kept.get(SENSITIVITY, [f"## {SENSITIVITY}", "", "No sweep was made.", ""])
    lines += _cost(cost, output) or kept.get(COST, [])
    with written_whole(output / DOCUMENT) as aside:
        aside.write_text("\n".join(lines))
    return output / DOCUMENT


def seeds(pair: Pair) -> tuple[int, ...]:
    """Of both methods: those of the one that takes longer."""
    return pair.apd.seeds


def _pair(pair: Pair, runs: Path) -> list[str]:
    lines = [f"## {pair.spd.name}", ""]
    header = ["method", "seeds", "steps", *COLUMNS, "wall s", "peak MB"]
    runs_found = {name: _results(system, seeds(pair), runs) for name, system in (("SPD", pair.spd), ("APD", pair.apd))}
    table = [_line(name, results) for name, results in runs_found.items() if results]
    both = {"SPD": pair.spd.published, "APD": pair.apd.published}
    table += [_published(name, published) for name, published in both.items() if published.mmcs]
    missing = [f"{name}: no finished run." for name, results in runs_found.items() if not results]
    return [*lines, *filled_columns(header, table), *(word for one in missing for word in (one, ""))]


def _results(system: System, wanted: Sequence[int], runs: Path) -> list[Result]:
    return finished(results_of([make_run(system, seed, runs) for seed in wanted], {}))


def _line(method: str, results: Sequence[Result]) -> list[str]:
    of_all = [column(results) for column in COLUMNS.values()]
    wall = [result.wall_s or result.metric("wall_time_s") for result in results]
    peak = [float(result.metric("peak_memory_mb")) for result in results]
    seeds_done = ", ".join(str(result.run.seed) for result in results)
    cost = [report_rows.number(fmean(wall), 0), report_rows.number(fmean(peak), 0)]
    return [method, seeds_done, str(results[0].metric("steps")), *of_all, *cost]


def _published(method: str, published: Published) -> list[str]:
    pairs = {"MMCS": published.mmcs, "ML2R": published.ml2r}
    said = {name: f"{pair[0]:.3f} ± {pair[1]:.3f}" for name, pair in pairs.items() if pair}
    return [f"{method}, published", NOTHING, NOTHING, *(said.get(name, NOTHING) for name in COLUMNS), NOTHING, NOTHING]


def _score(name: str) -> Callable[[Sequence[Result]], str]:
    return lambda results: spread(values(results, f"recovery/linear1/{name}"))


def _own(results: Sequence[Result]) -> str:
    pairs = [found(result.run.folder).own_features() for result in results]
    return ", ".join(f"{own} of {count}" for own, count in pairs)


def _contradictions(results: Sequence[Result]) -> str:
    return ", ".join(str(sum(_loosest(result, site) for site in sites([result]))) for result in results)


def _loosest(result: Result, site: str) -> int:
    counts = pattern_contradictions(result.scores, site)[1]
    return counts[-1][1] if counts else 0


def _pearson(results: Sequence[Result]) -> str:
    lowest = [
        [score for name, score in result.scores.items() if name.endswith("/pearson")] or [float("nan")]
        for result in results
    ]
    return NOTHING if any(score != score for scores in lowest for score in scores) else spread(list(map(min, lowest)))


def _distance(name: str) -> Callable[[Sequence[Result]], str]:
    return lambda results: ", ".join(f"{value:.1e}" for value in values(results, f"ablation/{name}"))


def _scrubbed(index: int) -> Callable[[Sequence[Result]], str]:
    return lambda results: ", ".join(f"{found(result.run.folder).scrubbed[index]:.1e}" for result in results)


def _writing(results: Sequence[Result]) -> str:
    return found(results[0].run.folder).writing()


def _settings(results: Sequence[Result]) -> str:
    return str(hyper_parameters(read_config(results[0].run.system.config)))


def _numbers(results: Sequence[Result]) -> str:
    return str(found(results[0].run.folder).parameters())


COLUMNS: Mapping[str, Callable[[Sequence[Result]], str]] = {
    "MMCS": _score("mmcs"),
    "ML2R": _score("ml2r"),
    "features of their own": _own,
    "contradictions at 0.2": _contradictions,
    "lowest r": _pearson,
    "important alone": _distance("ci_masked"),
    "random others": _distance("stochastic"),
    "scrubbed, kept": _scrubbed(0),
    "scrubbed, ablated": _scrubbed(1),
    "mlp_out": _writing,
    "trained numbers": _numbers,
    "settings": _settings,
}
"""What is said of each method's runs on a system."""


def _sensitivity(sweeps: Path, output: Path) -> list[str]:
    outcomes: list[dict[str, Any]] = [row for knob in KNOBS for row in knobs.outcomes(knob, sweeps)]
    if not outcomes:
        return []
    said = (
        "The 5-2 toy model, each method's most delicate numbers around their shipped values, seed 0 each. A feature "
        "counts as found if the component that is most important on it is no other feature's, and points along its "
        f"column with a cosine of at least {MIN_COSINE}; lengths are left aside here, since APD's shrink."
    )
    methods = {knob.words: knob.method for knob in KNOBS}
    table = [
        [methods[row["knob"]], row["knob"], f"{row['value']:g}", f"{row['share']:.2f}", str(row["runs"])]
        for row in outcomes
    ]
    picture = _draw(output, "sensitivity.png", lambda path: knobs.draw(outcomes, path))
    heading = [f"## {SENSITIVITY}", "", said, ""]
    return [*heading, *filled_columns(["method", "number", "value", "features found", "runs"], table), *picture]


def _cost(cost: Sequence[Row], output: Path) -> list[str]:
    if not cost:
        return []
    threads = ", ".join(sorted({str(row["threads"]) for row in cost}))
    said = (
        f"One training step of {growth.BATCH} examples on a random residual MLP of one layer (100 features, 50 "
        f"neurons, stream of 1000), median of {growth.STEPS}, each case in a process of its own, threads: {threads}. "
        "SPD's fast step has its paper's four terms; APD's has full rank, or rank 10."
    )
    table = [[row["method"], str(row["C"]), f"{row['ms']:.0f}", f"{row['mb']:.0f}"] for row in cost]
    picture = _draw(output, "cost.png", lambda path: growth.draw(list(cost), path))
    heading = [f"## {COST}", "", said, ""]
    return [*heading, *filled_columns(["method", "C", "ms per step", "peak MB"], table), *picture]


def _draw(output: Path, name: str, draw: Callable[[Path], None]) -> list[str]:
    path = output / PICTURES / name
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(path)
    keep_small(path, path)
    return [f"![{name.removesuffix('.png')}]({PICTURES}/{name})", ""]
