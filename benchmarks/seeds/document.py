"""The table as a page."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.options import ROOT
from benchmarks.reproduce.kept import kept_sections
from benchmarks.seeds.draw import RULE as DRAWN
from benchmarks.seeds.pictures import draw
from benchmarks.seeds.plan import PLAN_NAME, TablePlan
from benchmarks.seeds.published import published_rows, with_published
from benchmarks.seeds.runs import EntryRuns
from benchmarks.seeds.table import Group, failed, groups_of, losses, summary, uncounted, write_sheets
from spd_lightning.files.whole import written_whole
from spd_lightning.runs.verdict import RULE

DOCS = ROOT / "docs"
PAGE, FIGURES, SHEETS = "seeds.md", "figures", "seeds"
INTRODUCTION = f"""\
# Seeds, sizes and settings

Written by `make seeds` (`python -m benchmarks.seeds`) from run directories, with `--keep` also from its own CSV files;
nothing here is typed in.

Unless a plan says otherwise, runs are by [one recipe](default-recipe.md), `default.yaml` after each system's config. By
recipes of their own, the systems are in [results.md](results.md).

A run counts as recovered if {RULE}. A run whose process fails counts as not recovered. The interval is Wilson's, at
95 %. Steps and wall time are means over finished runs. The time includes drawing pictures, and for the first run on a
target training it.
"""


def write_table(
    folder: Path, plan: TablePlan, entries: Sequence[EntryRuns], pictures: Mapping[str, Path] | None = None
) -> None:
    """Write the table into its folder, without drawing anything: ``seeds.md`` and two CSV files.

    Args:
        folder: of the table.
        plan: what it is of.
        entries: its entries and their runs.
        pictures: drawn from what the table says now, by entry; earlier ones are not shown.
    """
    groups = groups_of(entries)
    write_sheets(folder, plan.name, groups)
    _write(folder / PAGE, [section(plan, groups, _relative(pictures or {}, folder), plan.name)])


def publish(
    folder: Path, plan: TablePlan, entries: Sequence[EntryRuns], docs: Path | None, *, keep: bool = False
) -> list[Path]:
    """Draw pictures, and write the table into its folder and, where wanted, into the documentation.

    Args:
        folder: of the table.
        plan: what it is of.
        entries: its entries and their runs.
        docs: folder of ``seeds.md``, which keeps what it says of other tables; ``None`` to leave it alone.
        keep: whether the documentation also keeps what it says of runs of this table that are not here.

    Returns:
        The pages.

    Raises:
        UsageError: with ``keep``, if a verdict of the documentation would be lost all the same.
    """
    groups = groups_of(entries)
    write_table(folder, plan, entries, _drawn(entries, groups, folder / FIGURES))
    if docs is None:
        return [folder / PAGE]
    if keep:
        published = published_rows(entries, sheet_in(docs, plan))
        entries = with_published(entries, published, folder)
        groups = groups_of(entries, published)
    _write_docs(docs, plan, entries, groups)
    return [folder / PAGE, docs / PAGE]


def sheet_in(docs: Path, plan: TablePlan) -> Path:
    """Where the documentation has a row for every run of a table."""
    return docs / SHEETS / f"{plan.name}_runs.csv"


def _write_docs(docs: Path, plan: TablePlan, entries: Sequence[EntryRuns], groups: Sequence[Group]) -> None:
    write_sheets(docs / SHEETS, plan.name, groups)
    pictures = _drawn(entries, groups, docs / "images" / SHEETS, f"{plan.name}_")
    kept = kept_sections(docs / PAGE)
    kept[plan.name] = section(plan, groups, _relative(pictures, docs), f"{SHEETS}/{plan.name}")
    _write(docs / PAGE, [kept[name] for name in sorted(kept)])


def _drawn(entries: Sequence[EntryRuns], groups: Sequence[Group], folder: Path, start: str = "") -> dict[str, Path]:
    """Pictures of those entries that have something to draw."""
    paths = {own.entry.name: folder / f"{start}{own.entry.name}.png" for own in entries}
    return {own.entry.name: paths[own.entry.name] for own in entries if draw(own, groups, paths[own.entry.name])}


def section(plan: TablePlan, groups: Sequence[Group], pictures: Mapping[str, str], sheet: str) -> list[str]:
    """Lines on one table.

    Args:
        plan: what it is of.
        groups: its lines.
        pictures: paths from the page, by entry.
        sheet: path of its CSV file from the page, without ending.
    """
    lines = [f"## {plan.name}", ""]
    if plan.draw:
        origin = f"Sizes were drawn with seed {plan.draw.seed} and written to `{PLAN_NAME}` before the first run."
        lines += [f"{origin} {DRAWN}", ""]
    lines += [*summary(groups), f"The same as [CSV]({sheet}.csv), and [a row for every run]({sheet}_runs.csv).", ""]
    for entry, path in pictures.items():
        lines += [f"![{entry}: recovered share]({path})", ""]
    said = {
        "Targets that do not represent all features; the others alone are scored:": [*losses(groups), ""],
        "Not recovered:": failed(groups),
        "Not counted:": uncounted(groups),
    }
    return lines + [line for words, listed in said.items() if any(listed) for line in (words, "", *listed)]


def _write(path: Path, sections: Sequence[Sequence[str]]) -> None:
    with written_whole(path) as aside:
        aside.write_text("\n".join([INTRODUCTION, *(line for own in sections for line in own)]))


def _relative(pictures: Mapping[str, Path], page: Path) -> dict[str, str]:
    return {name: os.path.relpath(path, page) for name, path in pictures.items()}
