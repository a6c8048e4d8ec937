"""The page on many runs: systems, seeds, and what became of each."""

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from spd_lightning.report import page, rows
from spd_lightning.report.notes import NEEDED, distances_with, duration, measured_with, megabytes, plain, state_text
from spd_lightning.report.pictures import MAX_PICTURES, pictures
from spd_lightning.report.reading import component_count, mapping, with_floats
from spd_lightning.runs.record import RunRecord
from spd_lightning.runs.verdict import MAX_UNMASKED, RULE, known_sites

MAIN_PICTURES = ("importance_heatmap", "contribution_agreement")
_SPREADS = {3: ("alive/{}", 1), 4: ("l0/{}", 2), 5: ("recovery/{}/mmcs", 3), 6: ("recovery/{}/ml2r", 3)}
_SPREADS |= {7: ("recovery/{}/pearson", 3)}


class TableRow(NamedTuple):
    """One run of a table.

    Attributes:
        system: what was decomposed; runs of one system come under one heading.
        seed: what tells the runs of a system apart, a seed or another name.
        record: the run.
    """

    system: str
    seed: str
    record: RunRecord


def table_page(title: str, runs: Sequence[TableRow], picture_bytes: int = MAX_PICTURES) -> str:
    """A report on many runs.

    Args:
        title: headline.
        runs: in the order in which they appear, whatever has become of them.
        picture_bytes: how much of their main pictures goes into the page; what does not fit is named instead.

    Returns:
        HTML, complete in itself, below 20 MB unless asked for more.
    """
    runs = [TableRow(system, seed, with_floats(record)) for system, seed, record in runs]
    systems = {run.system: [other for other in runs if other.system == run.system] for run in runs}
    overview = [_overview(system, own) for system, own in systems.items()]
    rule = page.element("p", "A run counts as recovered if ", RULE, ".")
    body = [page.element("h1", title), rule]
    body.append(page.table("systems", ["system", "recovered", "finished", "runs"], overview))
    for system, own in systems.items():
        gallery, spent = _gallery(own, picture_bytes)
        picture_bytes -= spent
        body.append(page.section(system, *_system(own), gallery))
    return page.document(title, *body, page.element("footer", "Made from the files of the run directories alone."))


def _column(runs: Sequence[TableRow]) -> str:
    """What the names in the first column are."""
    return "seed" if all(run.seed.isdecimal() for run in runs) else "run"


def _finished(runs: Iterable[TableRow]) -> list[TableRow]:
    return [run for run in runs if run.record.state == "finished"]


def _overview(system: str, runs: Sequence[TableRow]) -> list[str]:
    finished = _finished(runs)
    recovered = sum(not rows.missing(run.record.scores) for run in finished)
    return [system, *map(str, (recovered, len(finished), len(runs)))]


def _system(runs: Sequence[TableRow]) -> list[page.Html]:
    finished = _finished(runs)
    regimes = [name for name in rows.ABLATIONS if any(f"ablation/{name}" in run.record.scores for run in finished)]
    header = [
        _column(runs),
        "verdict",
        *(name.replace("_", " ") for name in regimes),
        "steps",
        "wall time",
        "peak memory",
    ]
    needed = ["needed", "", *(f"≤ {MAX_UNMASKED:.0e}" if name == "unmasked" else "" for name in regimes), *[""] * 3]
    lines = [_run(run, regimes) for run in runs]
    parts = [page.table("runs", header, lines, needed=needed if "unmasked" in regimes else ())]
    if not finished:
        return parts
    distances = dict.fromkeys(distances_with(run.record) for run in finished) if regimes else ()
    parts += [page.element("p", note, class_="faint") for note in distances]
    for site in dict.fromkeys(site for run in finished for site in rows.sites(run.record.scores)):
        parts += [page.element("h3", site), _site(site, finished)]
    notes = [*dict.fromkeys(measured_with(run.record) for run in finished), *_machines(finished)]
    if len(finished) > 1:
        notes.insert(0, "± is the standard deviation over the finished runs, recovered or not.")
    return parts + [page.element("p", note, class_="faint") for note in notes]


def _run(run: TableRow, regimes: Sequence[str]) -> list[str]:
    scores, metrics = run.record.scores, run.record.metrics
    return [
        run.seed,
        _verdict(run.record),
        *(rows.number(scores.get(f"ablation/{name}"), 1, "e") for name in regimes),
        plain(metrics.get("steps")),
        duration(metrics.get("wall_time_s")),
        megabytes(metrics.get("peak_memory_mb")),
    ]


def _verdict(record: RunRecord) -> page.Html:
    if record.state != "finished":
        return page.said(state_text(record), "bad")
    if not known_sites(record.scores):
        return page.said(rows.recovery(record.scores))
    reasons = rows.missing(record.scores)
    return page.said("; ".join(reasons) or "recovered", "bad" if reasons else "good")


def _site(site: str, runs: Sequence[TableRow]) -> page.Html:
    lines = [[run.seed, *rows.site_row(run.record.scores, site, component_count(run.record, site))[1:]] for run in runs]
    mean = ["mean ± sd", *(_spread(runs, site, column) for column in range(1, len(rows.SITE_HEADER)))]
    foot = [mean] if len(runs) > 1 else []
    return page.table(f"scores of {site}", [_column(runs), *rows.SITE_HEADER[1:]], lines, needed=NEEDED, foot=foot)


def _spread(runs: Sequence[TableRow], site: str, column: int) -> str:
    """Mean and standard deviation under a column of the table of a site; nothing where they would mean nothing."""
    if column not in _SPREADS:
        return ""
    name, digits = _SPREADS[column]
    scored = [run.record.scores.get(name.format(site)) for run in runs]
    values = [value for value in scored if value is not None and abs(value) < math.inf]
    if not values:
        return "-"
    deviation = f" ± {rows.number(statistics.stdev(values), digits)}" if len(values) > 1 else ""
    few = "" if len(values) == len(runs) else f" ({len(values)} of {len(runs)})"
    return f"{rows.number(statistics.fmean(values), digits)}{deviation}{few}"


def _machines(runs: Sequence[TableRow]) -> list[str]:
    """One sentence per machine and set of versions, with the seeds if there are several."""
    by_machine: dict[str, list[str]] = {}
    for run in runs:
        metrics = run.record.metrics
        versions = [f"{name} {plain(version)}" for name, version in mapping(metrics, "versions").items()]
        machine = ", ".join([plain(metrics.get("machine")), plain(metrics.get("device")), *versions])
        by_machine.setdefault(machine, []).append(run.seed)
    if len(by_machine) == 1:
        return [f"Machine: {machine}." for machine in by_machine]
    return [f"Machine of {', '.join(seeds)}: {machine}." for machine, seeds in by_machine.items()]


def _gallery(runs: Sequence[TableRow], budget: int) -> tuple[page.Html, int]:
    """The main pictures of finished runs, and how many bytes they took."""
    shown: list[page.Html] = []
    notes: list[str] = []
    captions: dict[str, str] = {}
    spent = 0
    for run in _finished(runs):
        found, left_out = pictures(run.record, budget - spent, MAIN_PICTURES)
        spent += sum(len(picture.content) for picture in found)
        name = f"seed {run.seed}" if run.seed.isdecimal() else run.seed
        shown += [page.picture(picture.content, picture.size, f"{picture.title}, {name}") for picture in found]
        notes += [f"{name}: {sentence}" for sentence in left_out]
        captions |= {picture.title: picture.caption for picture in found}
    said = [f"{title}: {caption}" for title, caption in captions.items()] + notes
    parts = [page.element("p", note, class_="faint") for note in said]
    return page.joined([*parts, *([page.element("div", *shown, class_="pictures")] if shown else [])]), spent
