"""``python -m spd_lightning.analysis cluster RUN_DIR``."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from spd_lightning.analysis.clustering import Clustering, agreement_with, cluster
from spd_lightning.analysis.commands.shared import add_loading
from spd_lightning.analysis.firings import Firings
from spd_lightning.analysis.harvest_files import read_harvest
from spd_lightning.analysis.mechanisms import Settings, save_mechanisms
from spd_lightning.artefact import load_model
from spd_lightning.errors import check_whole
from spd_lightning.files.progress import progress
from spd_lightning.files.whole import check_free
from spd_lightning.runs.analysis_files import FOLDER, MECHANISMS

SHOWN, NAMED = 10, 6
"""Groups that are printed, and components that are named of each."""


def add_to(commands: Any) -> None:
    """Add the subcommand to a parser's subparsers."""
    parser = commands.add_parser("cluster", help="put components that act together into mechanisms")
    parser.add_argument("folder", type=Path, metavar="RUN_DIR", help="run directory with a harvest")
    parser.add_argument("--alpha", type=float, default=1.0, help="price of a rank in bits (%(default)s)")
    parser.add_argument("--fewest", type=int, default=1, help="firings a component needs to be grouped (%(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="drawn orders to compare with; 0 for none (%(default)s)")
    parser.add_argument("--output", type=Path, metavar="FILE", help=f"where to write (RUN_DIR/{FOLDER}/{MECHANISMS})")
    add_loading(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> None:
    """Cluster, write the groups, and say what was found."""
    path = given.output or given.folder / FOLDER / MECHANISMS
    check_free(path)
    check_whole("--seeds", given.seeds, least=0)
    model = load_model(given.folder, given.import_classes)
    harvest = read_harvest(given.folder, model)
    found, *drawn = [_clustered(harvest.firings, given, seed) for seed in (None, *range(given.seeds))]
    settings = Settings(harvest.options.threshold, given.alpha, given.fewest, harvest.firings.n_units)
    save_mechanisms(path, found, model, settings, drawn)
    lines = [*told(found, harvest.firings.n_units, drawn), f"written to {path}"]
    sys.stdout.write("\n".join(lines) + "\n")


def _clustered(firings: Firings, given: argparse.Namespace, seed: int | None) -> Clustering:
    components = int((firings.often() >= given.fewest).sum())
    title = "cluster" if seed is None else f"cluster, seed {seed}"
    with progress(title, total=components) as bar:

        def after(_: int) -> None:
            bar.update()

        return cluster(firings, given.alpha, given.fewest, seed, after)


def told(found: Clustering, n_units: int, drawn: Sequence[Clustering] = ()) -> Iterator[str]:
    """What was found, in lines."""
    groups, grouped = found.grouping.groups, int((found.labels >= 0).sum())
    several = [group for group in groups if sum(map(len, group.values())) > 1]
    across = sum(len(group) > 1 for group in several)
    yield (
        f"{grouped} of {len(found.labels)} components are grouped, into {len(groups)} mechanisms: {len(several)} of "
        f"several components, {across} of these across sites"
    )
    yield f"bits per position: {found.before / n_units:.2f} one by one, {found.after / n_units:.2f} as mechanisms"
    for index, other in zip(agreement_with(found, drawn), drawn, strict=True):
        yield f"merged in a drawn order: {other.after / n_units:.2f} bits, adjusted Rand index {index:.2f} with these"
    largest = sorted(range(len(groups)), key=lambda number: -sum(map(len, groups[number].values())))
    for number in [number for number in largest if groups[number] in several][:SHOWN]:
        share = int(found.firings[number]) / n_units
        together = f"{float(found.coherence[number]):.0%} of its members together"
        yield f"  {number}: active at {share:.2%}, {together}: {_named(groups[number])}"


def _named(group: dict[str, list[int]]) -> str:
    names = [f"{site}:{component}" for site, components in group.items() for component in components]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
