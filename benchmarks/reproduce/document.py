"""Everything that is written about the runs: Markdown, CSV, pictures, and a page to read in a browser."""

import os
from collections.abc import Mapping
from pathlib import Path

from benchmarks.reproduce.kept import kept_results, kept_sections
from benchmarks.reproduce.options import DOCS, RUNS, Options
from benchmarks.reproduce.pictures import copy_pictures
from benchmarks.reproduce.plan import Run, found_runs, runs_of, shown
from benchmarks.reproduce.results import LEFT_ALONE, Result, results_of
from benchmarks.reproduce.section import section
from benchmarks.reproduce.sensitivity import sensitivity
from benchmarks.reproduce.sheet import write_sheet
from benchmarks.reproduce.summary import Results, measured_steps, summary
from benchmarks.reproduce.systems import PAPER_PREFIX, System
from spd_lightning.files.whole import written_whole
from spd_lightning.report import REPORT_NAME, TableRow, table_page, write_page
from spd_lightning.runs.record import RunRecord
from spd_lightning.runs.verdict import RULE

DOCUMENT, SHEET, SWEEPS = "results.md", "results.csv", "sweeps"

INTRODUCTION = """\
Written by `make reproduce` (`python -m benchmarks.reproduce`) from the run directories in `runs/reproduce`; nothing
here is typed in. With `--keep`, what an earlier call wrote of systems that have no runs there stays.
[{sheet}]({sheet}) holds the same numbers and more, one row per run and one column per score. How the recipes were
found, and what did not work, is in [recipes]({recipes}). The same targets by the older method are in
[comparison]({comparison}).

A run counts as recovered if {rule}.

Distances (`unmasked` to `zero`) are mean squared differences from the target's output on held-out data (or
divergences, where the thresholds name `distance kl`) with: all masks one and no delta; importances as masks;
importances rounded to 0 or 1; stochastic masks; the worst sources that signed gradient ascent finds anew for each
batch (steps x step size in brackets); everything ablated. L0 is the mean number of components per example with an
importance above the threshold, alive how many are above it on any example. Errors are importances on one-hot probes
that contradict the expected pattern at a tolerance. MMCS stands beside what random components would reach (chance).
Wall time is that of the whole process, summed over the parts of an interrupted run; the run that comes first on a
system trains its target. Means and standard deviations are over all finished runs, recovered or not; the paper's are
those of its Table 1, and for Pearson's r those printed in its figures."""


def write_document(options: Options, systems: Mapping[str, System], failures: Mapping[Run, str]) -> list[str]:
    """Write all there is to read.

    Args:
        options: of this call.
        systems: all systems there are.
        failures: why runs failed just now, or were left alone.

    Returns:
        Lines that say what was written where.
    """
    made = by_system(options, systems, failures)
    output, note = _place(options, systems)
    earlier = [system for system in systems.values() if options.keep and system not in made]
    results = {**made, **kept_results(output / SHEET, earlier, options.runs)}
    results = {system: results[system] for system in systems.values() if system in results}
    lines = _lines(results, made, options.runs, output)
    with written_whole(output / DOCUMENT) as aside:
        aside.write_text("\n".join(lines))
    write_sheet(output / SHEET, [result for own in results.values() for result in own])
    everything = [result for own in made.values() for result in own]
    page = options.runs / REPORT_NAME
    write_page(page, table_page("Reproduction of the SPD paper's systems", list(map(_entry, everything))), ours=True)
    return [*note, f"wrote {shown(output / DOCUMENT)}, {shown(output / SHEET)} and {shown(page)}"]


def _entry(result: Result) -> TableRow:
    """A row of the page; numbers that are not used here are not shown there either."""
    record = result.record
    if result.problem and record.state == "finished":
        record = RunRecord(record.folder, "damaged", result.problem.removeprefix(LEFT_ALONE))
    return TableRow(result.run.system.name, str(result.run.seed), record)


def by_system(options: Options, systems: Mapping[str, System], failures: Mapping[Run, str]) -> Results:
    """Every run that left something behind, and every one that failed.

    Args:
        options: of this call.
        systems: all systems there are.
        failures: why runs failed just now, or were left alone.

    Returns:
        Results by system, in the order of systems and seeds.
    """
    found: dict[tuple[str, int], Run] = {}
    for run in [*found_runs(systems.values(), options.runs), *failures]:
        found[run.system.name, run.seed] = run
    ordered = sorted(found.values(), key=lambda run: run.seed)
    results = {
        system: results_of([run for run in ordered if run.system is system], failures) for system in systems.values()
    }
    return {system: own for system, own in results.items() if own}


def _place(options: Options, systems: Mapping[str, System]) -> tuple[Path, list[str]]:
    """Where tables go: a part of the systems does not replace the published tables of all."""
    if options.output is not None:
        return options.output, []
    ours = [system for name, system in systems.items() if not name.startswith(PAPER_PREFIX)]
    absent = [run.name for run in runs_of(ours, (), options.runs) if not run.exists]
    if options.runs == RUNS and (options.keep or not absent):
        return DOCS, []
    if options.runs != RUNS:
        return options.runs, []
    others = f" and {len(absent) - 1} other runs are" if len(absent) > 1 else " is"
    return RUNS, [f"{shown(DOCS / DOCUMENT)} is left as it is: {absent[0]}{others} still to be made"]


def _lines(results: Results, made: Results, runs: Path, output: Path) -> list[str]:
    others = {name: os.path.relpath(DOCS / f"{name}.md", output) for name in ("recipes", "comparison")}
    introduction = INTRODUCTION.format(sheet=SHEET, rule=RULE, **others)
    lines = ["# Results", "", introduction, "", "## Summary", "", *summary(results, measured_steps())]
    kept = kept_sections(output / DOCUMENT)
    for system, own in results.items():
        if system not in made:
            lines += kept.get(system.name, [])
            continue
        lines += section(system, own, copy_pictures(own, output))
        lines += sensitivity(system.name, runs.parent / SWEEPS, output)
    return lines
