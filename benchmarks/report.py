"""Results of all parts: kept as JSON, written out as CSV, Markdown and pictures."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.curves import BASE
from benchmarks.pictures import draw_curves, draw_step_time
from benchmarks.tables import SECTIONS
from spd_lightning.files.whole import written_whole

Results = dict[str, Any]
"""Per part: ``machine`` (see :func:`benchmarks.machine.describe`), ``took_s``, ``quick`` and ``found``."""

RESULTS, TABLE, DOCUMENT = "results.json", "results.csv", "results.md"
IDENTIFIERS = ("system", "device", "kind", "curve", "size", "seed")


def load(folder: Path) -> Results:
    """What earlier runs left in a folder."""
    path = folder / RESULTS
    results: Results = json.loads(path.read_text()) if path.is_file() else {}
    return {part: results[part] for part in SECTIONS if part in results}


def write(results: Results, folder: Path) -> None:
    """Write everything that follows from the results."""
    with written_whole(folder / RESULTS) as aside:
        aside.write_text(json.dumps(results, indent=1) + "\n")
    _write_csv(results, folder / TABLE)
    (folder / DOCUMENT).write_text(document(results))
    if "step_time" in results:
        draw_step_time(results["step_time"]["found"], "cpu", folder / "step_time.png")
    if "curves" in results:
        draw_curves(results["curves"]["found"], BASE, folder / "curves.png")


def document(results: Results) -> str:
    """The Markdown document."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `python -m benchmarks`; nothing here is typed in. Each part names the machine it ran on.",
        "",
    ]
    for part, (title, section) in SECTIONS.items():
        lines += [f"## {title}", ""]
        if part not in results:
            lines += ["not measured", ""]
            continue
        lines += [*section(results[part]["found"]), "", *_picture(part), _origin(results[part]), ""]
    return "\n".join(lines)


def _picture(part: str) -> list[str]:
    pictures = {"step_time": ("Bars of the time per step", "step_time.png"), "curves": ("Curves", "curves.png")}
    return [f"![{pictures[part][0]}]({pictures[part][1]})", ""] if part in pictures else []


def _origin(part: dict[str, Any]) -> str:
    on = part["machine"]
    trial = "**A trial with few repeats; its numbers mean nothing.** " if part["quick"] else ""
    return (
        f"{trial}{on['processor']}, {on['cores']} cores, {on['threads']} threads, {on['system']}, GPU: "
        f"{on['gpu'] or 'none'}; compiled kernels: {'yes' if on['compiled_kernels'] else 'no'}; python {on['python']}, "
        f"torch {on['torch']}, lightning {on['lightning']}, spd_lightning {on['spd_lightning']}; {on['date']}; "
        f"measured in {part['took_s']:.0f} s."
    )


def _write_csv(results: Results, path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["part", *IDENTIFIERS, "quantity", "value"])
        for part, content in results.items():
            for case, quantity, value in _numbers(content["found"], {}, ""):
                writer.writerow([part, *(case.get(name, "") for name in IDENTIFIERS), quantity, value])


def _numbers(tree: Any, case: dict[str, Any], path: str) -> Iterator[tuple[dict[str, Any], str, Any]]:
    """Every number of a part, with what identifies it and its own name."""
    if isinstance(tree, dict):
        inside = case | {name: tree[name] for name in IDENTIFIERS if not isinstance(tree.get(name, {}), dict)}
        for name, value in tree.items():
            if name not in inside:
                yield from _numbers(value, inside, f"{path}/{name}" if path else name)
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            identified = isinstance(value, dict) and any(name in value for name in IDENTIFIERS)
            yield from _numbers(value, case, path if identified else f"{path}/{index}")
    else:
        yield case, path, tree
