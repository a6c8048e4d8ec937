"""Draw the rooms of the package and who imports whom, read from its source.

    python -m benchmarks.rooms [PATH]

Writes docs/images/rooms.png. A room stands above all rooms that it imports. An arrow that follows from others is left
out: who imports ``model`` may import what ``model`` imports.
"""

import ast
import sys
from collections.abc import Mapping
from graphlib import TopologicalSorter
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

PACKAGE = Path(__file__).resolve().parent.parent / "spd_lightning"
PICTURE = PACKAGE.parent / "docs" / "images" / "rooms.png"
LOOSE = ("errors", "_threads", "lightning_private")
"""Modules that are in no room; everybody may import them."""
ROOMS = {
    "recommend": ("sizes for a network", -1),
    "sweep": ("many runs of one config", 0),
    "cli": ("one command line", 0),
    "notebook": ("one call", -1),
    "callbacks": ("one question, one file", 0),
    "tensorboard_plugin": ("the tab Components", 1),
    "report": ("a page per run", 0),
    "runs": ("what runs leave on disk", 0),
    "methods": ("LightningModules", 0),
    "artefact": ("weights to share", -1),
    "losses": ("terms of the objective", 0),
    "parallel": ("processes as one", 1),
    "model": ("sites and components", 0),
    "kernels": ("hot parts, compiled", 0),
    "targets": ("networks, weights", -2),
    "data": ("batches keyed by step", 3.4),
    "analysis": ("what components do", -2),
    "figures": ("tensors in, pictures out", 1.6),
    "metrics": ("scores over processes", 2.6),
    "files": ("whole files, plain data", -1),
    "functional": ("tensors in, tensors out", 1.6),
}
"""What is written into a box, and how far right of the middle it stands."""
RAISED = ("data", "figures", "metrics")
"""Rooms that are drawn just below who uses them."""
WIDTH, HEIGHT, COLUMN, ROW = 3.15, 0.7, 3.5, 1.35


def imports() -> dict[str, set[str]]:
    """The rooms that every room imports, read from the source."""
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    return {room: (_named(room) & rooms) - {room} for room in sorted(rooms)}


def _named(room: str) -> set[str]:
    found: set[str] = set()
    for path in sorted((PACKAGE / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.split(".")[1] for name in found if name.startswith("spd_lightning.")}


def reduced(arrows: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """The arrows that do not follow from others."""
    below: dict[str, set[str]] = {}
    for room in TopologicalSorter(arrows).static_order():
        below[room] = set().union(*({one} | below[one] for one in arrows[room]))
    return {room: {one for one in to if not any(one in below[other] for other in to)} for room, to in arrows.items()}


def levels(arrows: Mapping[str, set[str]]) -> dict[str, int]:
    """How high every room stands: above all that it imports."""
    height: dict[str, int] = {}
    for room in TopologicalSorter(arrows).static_order():
        height[room] = max((height[one] + 1 for one in arrows[room]), default=0)
    for room in RAISED:
        height[room] = min(height[one] for one, below in arrows.items() if room in below) - 1
    return height


def draw(arrows: Mapping[str, set[str]]) -> Figure:
    """The rooms as boxes, each above what it imports."""
    kept = reduced(arrows)
    places = {room: (ROOMS[room][1] * COLUMN, height * ROW) for room, height in levels(arrows).items()}
    figure = Figure(figsize=(13, 9), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for room, (x, y) in places.items():
        for one in sorted(kept[room]):
            there = places[one]
            start, end = (x, y - HEIGHT / 2), (there[0], there[1] + HEIGHT / 2)
            arrow = FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=12, shrinkA=0, shrinkB=1, color="0.45")
            axes.add_patch(arrow)
    for room, (x, y) in places.items():
        corner = (x - WIDTH / 2, y - HEIGHT / 2)
        box = FancyBboxPatch(
            corner, WIDTH, HEIGHT, boxstyle="round,pad=0,rounding_size=0.1", fc="#e8f1f8", ec="#0072B2"
        )
        axes.add_patch(box)
        axes.text(x, y + 0.12, room, ha="center", va="center", fontsize=12, weight="bold")
        axes.text(x, y - 0.16, ROOMS[room][0], ha="center", va="center", fontsize=9)
    xs, ys = zip(*places.values(), strict=True)
    axes.set(xlim=(min(xs) - WIDTH / 1.9, max(xs) + WIDTH / 1.9), ylim=(min(ys) - HEIGHT / 1.8, max(ys) + HEIGHT / 1.8))
    axes.set_axis_off()
    return figure


def main(arguments: list[str]) -> None:
    """Write the picture."""
    path = Path(arguments[0]) if arguments else PICTURE
    draw(imports()).savefig(path, dpi=110)
    sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
