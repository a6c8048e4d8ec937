"""``python -m spd_lightning.analysis agreement RUN_DIR RUN_DIR ...``."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from spd_lightning.analysis.agreement import Alive, SiteAgreement, agreement
from spd_lightning.analysis.commands.shared import aligned
from spd_lightning.analysis.result_files import number_or_none
from spd_lightning.artefact import load_decomposition
from spd_lightning.errors import UsageError
from spd_lightning.files.tensors import read_safetensors
from spd_lightning.files.whole import check_free, is_file, written_whole
from spd_lightning.model import DecomposedModel

DENSITY = Path("analysis") / "density.safetensors"


def add_to(commands: Any) -> None:
    """Add the subcommand to a parser's subparsers."""
    parser = commands.add_parser("agreement", help="do runs with other seeds find the same components?")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN_DIR", help="run directories, two or more")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the numbers as JSON too; it must not exist")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Compare the runs, print a table, write the file that was asked for."""
    if options.output is not None:
        check_free(options.output)
    found = compare(options.runs)
    unscored = [str(run) for run in options.runs if not is_file(run / DENSITY)]
    sys.stdout.write(table(found) + "\n")
    if unscored:
        sys.stdout.write(
            f"dead components count too in {', '.join(unscored)}, which kept no {DENSITY}; test writes it\n"
        )
    if options.output is not None:
        _written(found, options.output)


def alive_in(run: Path, model: DecomposedModel) -> Alive:
    """Components that were important anywhere in the run's test; all of them where the run kept no densities."""
    if not is_file(run / DENSITY):
        return {name: torch.ones(parts.n_components, dtype=torch.bool) for name, parts in model.components.items()}
    densities = read_safetensors(run / DENSITY, "densities")
    alive = {}
    for name, parts in model.components.items():
        calls = [density for call, density in densities.items() if call.partition("@")[0] == name]
        if not calls or any(density.shape != (parts.n_components,) for density in calls):
            raise UsageError(f"{str(run / DENSITY)!r} does not fit the run's components; score the run anew with test")
        alive[name] = torch.stack(calls).amax(0) > 0
    return alive


def compare(runs: Sequence[Path]) -> dict[str, SiteAgreement]:
    """The agreement of run directories."""
    models = [load_decomposition(run) for run in runs]
    return agreement(models, [alive_in(run, model) for run, model in zip(runs, models, strict=True)])


def table(found: Mapping[str, SiteAgreement]) -> str:
    """A line per site, and the mean over them."""
    header = ("site", "alive", "mean max cosine", "by chance")
    rows = [
        (name, " ".join(map(str, site.alive.tolist())), f"{site.mean:.3f}", f"{site.chance:.3f}")
        for name, site in found.items()
    ]
    mean, chance = (
        torch.tensor([getattr(site, what) for site in found.values()]).nanmean() for what in ("mean", "chance")
    )
    rows.append(("mean", "", f"{mean:.3f}", f"{chance:.3f}"))
    return "\n".join(aligned([header, *rows]))


def _written(found: Mapping[str, SiteAgreement], path: Path) -> None:
    content = {
        name: {
            "alive": site.alive.tolist(),
            "mean_max_cosine": number_or_none(site.mean),
            "chance": number_or_none(site.chance),
            "pairs": [[number_or_none(cosine) for cosine in row] for row in site.best.tolist()],
        }
        for name, site in found.items()
    }
    with written_whole(path) as aside:
        aside.write_text(json.dumps(content, indent=1) + "\n")
