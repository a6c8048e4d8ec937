"""What each live component does to the features (SPD paper, Figure 1)."""

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
from spd_lightning.callbacks.mechanism_recovery import columns_of_features
from spd_lightning.callbacks.publishing import publish_figure
from spd_lightning.figures import component_vectors
from spd_lightning.functional import ALIVE_THRESHOLD
from spd_lightning.losses import check_positive
from spd_lightning.methods import Decomposition
from spd_lightning.model import Components
from spd_lightning.targets import KnownMechanisms, Mechanisms


class ComponentVectors(EvaluationCallback):
    """Draws, for every site whose features are columns or rows, the target's vectors, the components' sum, each part.

    Args:
        probe: magnitude of the one-hot probes on which a component must be active to be drawn.
        threshold: importance above which it is.
        every_n_validations: how often the pictures are drawn while training.
    """

    def __init__(
        self,
        probe: float = 0.75,
        threshold: float = ALIVE_THRESHOLD,
        every_n_validations: int = 5,
    ) -> None:
        super().__init__(every_n_validations)
        check_positive("probe", probe)
        check_positive("threshold", threshold, allow_zero=True)
        self.probe, self.threshold = probe, threshold

    def setup(self, trainer: Trainer, pl_module: Decomposition, stage: str) -> None:  # type: ignore[override]
        """Check that there are probes."""
        if stage != "predict":
            check_probes(self, trainer, pl_module)

    def finish(self, trainer: Trainer, module: Decomposition, stage: str) -> None:
        """Draw one picture per site on rank zero."""
        tables = probe_importances(trainer, module, self.probe)
        if not trainer.is_global_zero:
            return
        known = module.target.known_mechanisms() if isinstance(module.target, KnownMechanisms) else {}
        alive = matched_components(module, tables, self.threshold)
        for group in module.model.alike:
            shown = alive_in_any(alive, group)
            drawn: list[Tensor] = []
            for name in group:
                read, write, weight = _columns(module.model.components[name], known.get(name))
                if not any(torch.equal(weight, other) for other in drawn):  # tied sites may show the same vectors
                    drawn.append(weight)
                    figure = component_vectors(weight, read, write, shown, _headline(group, name))
                    publish_figure(trainer, f"{stage}/component_vectors/{name}", figure)


def _headline(group: tuple[str, ...], name: str) -> str:
    """The site, and those that are tied to it."""
    others = [other for other in group if other != name]
    return f"{name} (tied with {', '.join(others)})" if others else name


def _columns(parts: Components, known: Mechanisms | None) -> tuple[Tensor, Tensor, Tensor]:
    if known is not None and known.axis is not None:
        return columns_of_features(parts, known)
    return parts.V.detach(), parts.U.detach(), parts.site.weight()
