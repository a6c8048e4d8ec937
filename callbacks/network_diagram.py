"""The whole network, and what each live component does in it (SPD paper, Figures 2 to 4)."""

from itertools import pairwise

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from spd_lightning.callbacks.evaluation import (
    EvaluationCallback,
    alive_in_any,
    check_probes,
    matched_components,
    probe_importances,
)
from spd_lightning.callbacks.publishing import publish_figure
from spd_lightning.errors import UsageError
from spd_lightning.figures import network_diagram
from spd_lightning.functional import ALIVE_THRESHOLD
from spd_lightning.losses import check_positive
from spd_lightning.methods import Decomposition
from spd_lightning.model import ComponentModel
from spd_lightning.model.grouping import ALL_SITES
from spd_lightning.model.wrapping import Original


class NetworkDiagram(EvaluationCallback):
    """Draws target, sum of components and every alive component as networks of nodes and edges.

    For targets whose sites form a plain chain: each reads what the one before puts out, coordinate by coordinate and
    nothing else. Components come in the order of the features that they are matched to; those of tied sites, which
    are the same numbers, once.

    Args:
        probe: magnitude of the one-hot probes on which a component must be active to be drawn.
        threshold: importance above which it is.
        every_n_validations: how often the picture is drawn while training.
    """

    def __init__(self, probe: float = 0.75, threshold: float = ALIVE_THRESHOLD, every_n_validations: int = 5) -> None:
        super().__init__(every_n_validations)
        check_positive("probe", probe)
        check_positive("threshold", threshold, allow_zero=True)
        self.probe, self.threshold = probe, threshold

    def setup(self, trainer: Trainer, pl_module: Decomposition, stage: str) -> None:  # type: ignore[override]
        """Check that there are probes and that the sites form a chain."""
        if stage == "predict":
            return
        check_probes(self, trainer)
        probes = trainer.datamodule.probes(self.probe).to(pl_module.device)  # type: ignore[attr-defined]
        for first, second in pairwise(pl_module.model.site_names):
            if not _follows(pl_module.model, probes, first, second):
                raise UsageError(
                    f"NetworkDiagram: sites must form a chain, but {second!r} does not read {first!r} alone; remove "
                    "NetworkDiagram from trainer.callbacks"
                )

    def finish(self, trainer: Trainer, module: Decomposition, stage: str) -> None:
        """Draw the picture on rank zero."""
        tables = probe_importances(trainer, module, self.probe)
        if trainer.is_global_zero:
            parts = module.model.components.items()
            sites = {name: (site.site.weight(), site.V, site.U) for name, site in parts}
            shown = _shown(module.model, matched_components(module, tables, self.threshold))
            title = f"Network, and components of importance above {self.threshold:g} on single-feature probes"
            tied = [" and ".join(group) for group in module.model.alike if len(group) > 1]
            title += "".join(f"\n{sites} are tied: a component of one is a component of the other" for sites in tied)
            publish_figure(trainer, f"{stage}/network_diagram", network_diagram(sites, shown, title))


def _shown(model: ComponentModel, alive: dict[str, list[int]]) -> dict[tuple[str, ...], list[int]]:
    """Alive components by the sites in which they have a part: those of tied sites and of mechanisms once."""
    together = list(model.mechanisms.tables) == [ALL_SITES]
    groups = [tuple(model.site_names)] if together else model.alike
    return {group: alive_in_any(alive, group) for group in groups}


@torch.no_grad()
def _follows(model: ComponentModel, probes: Tensor, first: str, second: str) -> bool:
    """Whether each input of one site depends on the same output of another one and on nothing else."""
    width = model.components[first].site.d_out
    if width != model.components[second].site.d_in:
        return False
    rows = torch.arange(max(len(probes), width), device=probes.device)
    x, units = probes[rows % len(probes)], torch.eye(width).to(probes)[rows % width]
    silent, excited = (_input(model, x, first, output, second) for output in (torch.zeros_like(units), units))
    if silent is None or excited is None or silent.shape != units.shape:
        return False
    return torch.allclose(silent, silent[:1].expand_as(silent)) and torch.allclose(
        torch.where(units.bool(), silent, excited), silent
    )


def _input(model: ComponentModel, x: Tensor, first: str, output: Tensor, second: str) -> Tensor | None:
    """What reaches ``second`` when ``first`` puts out ``output``."""
    seen: list[Tensor] = []

    def run(path: str, index: int, site_input: Tensor, original: Original) -> Tensor:
        if path == first:
            return output
        seen.append(site_input)
        result: Tensor = original(site_input)
        return result

    model.wrapping.run(x, run, modules=[first, second])
    return seen[0] if seen else None
