"""The part of the document on one system."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.reproduce.layout import NOTHING, filled_columns, joined
from benchmarks.reproduce.results import Result, finished, sites, spread, values
from benchmarks.reproduce.systems import System
from spd_lightning.report import rows
from spd_lightning.report.reading import component_count

SITE_HEADER = (
    "C",
    "pattern",
    "mechanisms",
    "alive",
    "L0",
    "contradictions at 0.1",
    "contradictions at 0.2",
    "MMCS (chance)",
    "ML2R",
    "ML2R of alive",
    "Pearson r",
    "terms found",
    "least cosine",
)
THRESHOLD = "ComponentActivity.threshold"
BUDGET = ("AblationCheck.adversary_steps", "AblationCheck.adversary_step_size")


def section(system: System, results: Sequence[Result], pictures: Sequence[str]) -> list[str]:
    """Lines on one system: every run, every site, means beside the paper's, pictures, and how it was measured.

    Args:
        system: the system.
        results: of its runs.
        pictures: paths from the document's folder.
    """
    done = finished(results)
    lines = [f"## {system.name}", "", _sentence(system, results), "", *_runs(results)]
    if not done:
        return lines
    lines += [*_sites(done), *_beside_the_paper(system, done)]
    for path in pictures:
        lines += [f"![{system.name}, seed {done[0].run.seed}]({path})", ""]
    return [*lines, _origin(done), "", _settings(done), ""]


def _sentence(system: System, results: Sequence[Result]) -> str:
    recovered = sum(not result.shortfalls for result in results)
    published = f"; in the paper {system.published.where}" if system.published.where else ""
    config = system.config if Path(system.config).is_absolute() else f"configs/{system.config}"
    return f"`{config}`{published}. {recovered} of {len(results)} seeds recovered."


def _runs(results: Sequence[Result]) -> list[str]:
    regimes = [name for name in rows.ABLATIONS if any(f"ablation/{name}" in result.scores for result in results)]
    steps, size = (_common(results, name) for name in BUDGET)
    budget = f" ({steps} x {size})" if steps and size else ""
    words = [name.replace("_", " ") + (budget if name == "worst_case" else "") for name in regimes]
    header = ["seed", "steps", "wall s", "peak MB", *words, "verdict"]
    return filled_columns(header, [_run(result, regimes) for result in results])


def _common(results: Sequence[Result], setting: str) -> str:
    """A setting as text, if all finished runs have the same."""
    found = {str(result.settings.get(setting, "")) for result in finished(results)}
    return found.pop() if len(found) == 1 else ""


def _run(result: Result, regimes: Sequence[str]) -> list[str]:
    return [
        str(result.run.seed),
        str(result.metric("steps") or NOTHING),
        rows.number(result.wall_s if not result.problem else None, 0),
        rows.number(result.metric("peak_memory_mb"), 0),
        *(rows.number(result.scores.get(f"ablation/{name}"), 1, "e") for name in regimes),
        result.verdict,
    ]


def _sites(done: Sequence[Result]) -> list[str]:
    lines = [
        [site, str(result.run.seed), *_site(result, site)]
        for site in sites(done)
        for result in done
        if f"alive/{site}" in result.scores or f"recovery/{site}/mechanisms" in result.scores
    ]
    threshold = _common(done, THRESHOLD)
    header = [f"L0 above {threshold}" if name == "L0" and threshold else name for name in SITE_HEADER]
    return filled_columns(["site", "seed", *header], lines)


def _site(result: Result, site: str) -> list[str]:
    scores = result.scores
    kind, counts = rows.pattern(scores, site)
    listed = {f"contradictions at {tolerance}": str(count) for tolerance, count in counts}
    known = {name: scores.get(f"recovery/{site}/{name}") for name in ("mmcs", "chance_mmcs", "ml2r", "ml2r_alive")}
    mmcs = f"{rows.number(known['mmcs'], 5)} ({rows.number(known['chance_mmcs'])})"
    count = component_count(result.record, site)
    return [
        NOTHING if count is None else str(count),
        kind,
        rows.number(scores.get(f"recovery/{site}/mechanisms"), 0),
        rows.number(scores.get(f"alive/{site}"), 0),
        rows.number(scores.get(f"l0/{site}")),
        listed.get("contradictions at 0.1", NOTHING),
        listed.get("contradictions at 0.2", NOTHING),
        NOTHING if known["mmcs"] is None else mmcs,
        rows.number(known["ml2r"], 4),
        rows.number(known["ml2r_alive"], 4),
        rows.number(scores.get(f"recovery/{site}/pearson"), 4),
        rows.number(scores.get(f"recovery/{site}/terms_found"), 0),
        rows.number(scores.get(f"recovery/{site}/matched_cosine_min"), 4),
    ]


def _beside_the_paper(system: System, done: Sequence[Result]) -> list[str]:
    header = ["mean ± sd", "alive", "expected", "MMCS", "paper", "ML2R", "paper", "Pearson r", "paper, all layers"]
    lines = [_means(system, done, site) for site in sites(done)]
    return filled_columns(header, lines)


def _means(system: System, done: Sequence[Result], site: str) -> list[str]:
    published, expected = system.published, system.expected_alive(site)
    first = site == published.matrix
    correlations = values(done, f"recovery/{site}/pearson")
    return [
        site,
        spread(values(done, f"alive/{site}"), 1),
        NOTHING if expected is None else str(expected),
        spread(values(done, f"recovery/{site}/mmcs")),
        _published(published.mmcs) if first else NOTHING,
        spread(values(done, f"recovery/{site}/ml2r")),
        _published(published.ml2r) if first else NOTHING,
        spread(correlations, 4),
        rows.number(published.pearson) if correlations else NOTHING,
    ]


def _published(pair: tuple[float, float] | None) -> str:
    return NOTHING if pair is None else f"{pair[0]:.3f} ± {pair[1]:.3f}"


def _origin(done: Sequence[Result]) -> str:
    machines = joined(f"{result.metric('device')}, {result.metric('machine')}" for result in done)
    versions = joined(", ".join(f"{name} {version}" for name, version in result.versions.items()) for result in done)
    parts = [part for result in done for part in result.process.get("parts", [])]
    shared = joined(f"{part.get('jobs')} at a time with {part.get('threads')} threads each" for part in parts)
    return f"Machine: {machines}. Runs: {shared or 'one by one'}. Versions: {versions}."


def _settings(done: Sequence[Result]) -> str:
    shown = joined((f"{name} {value}" for result in done for name, value in result.settings.items()), ", ")
    return f"Thresholds and budgets: {shown}." if shown else ""
