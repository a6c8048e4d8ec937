"""Which component answers to which feature."""

from typing import Literal, get_args

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from spd_lightning.callbacks.evaluation import EvaluationCallback, check_probes, tables_of
from spd_lightning.callbacks.publishing import publish_figure
from spd_lightning.errors import check_choice, check_whole
from spd_lightning.figures import importance_heatmap
from spd_lightning.functional import ALIVE_THRESHOLD, alive_components, pattern_order
from spd_lightning.losses import check_positive
from spd_lightning.methods import Decomposition
from spd_lightning.model import CausalImportance
from spd_lightning.targets import KnownMechanisms

Sigmoid = Literal["lower", "upper", "both"]


class ImportanceHeatmaps(EvaluationCallback):
    """Draws per site the importances on one-hot probes.

    Columns are permuted to the best one-to-one matching of features; where the target is known to have a dense block
    they come by their sum, largest first. The lower-leaky importances decide on the order whichever are drawn.

    Args:
        probe: magnitude of the one-hot probes; 0.75 in the paper's figures.
        max_components: number of columns drawn per site, more if that takes to show every live component.
        every_n_validations: how often the picture is drawn while training.
        sigmoid: ``"lower"``, the importances that make the masks; ``"upper"``, those of the penalty, as in the paper's
            Figures 12 and 13; or ``"both"``, side by side.
        threshold: lower-leaky importance above which a component is live.

    Raises:
        UsageError: for another ``sigmoid``.
    """

    def __init__(
        self,
        probe: float = 0.75,
        max_components: int = 128,
        every_n_validations: int = 5,
        sigmoid: Sigmoid = "lower",
        threshold: float = ALIVE_THRESHOLD,
    ) -> None:
        super().__init__(every_n_validations)
        check_choice("sigmoid", sigmoid, get_args(Sigmoid))
        check_positive("probe", probe)
        check_positive("threshold", threshold, allow_zero=True)
        check_whole("max_components", max_components, least=1)
        self.probe, self.max_components = probe, max_components
        self.sigmoid, self.threshold = sigmoid, threshold

    def setup(self, trainer: Trainer, pl_module: Decomposition, stage: str) -> None:  # type: ignore[override]
        """Check that there are probes."""
        if stage != "predict":
            check_probes(self, trainer)

    def finish(self, trainer: Trainer, module: Decomposition, stage: str) -> None:
        """Draw the picture on rank zero."""
        probes = trainer.datamodule.probes(self.probe).to(module.device)  # type: ignore[attr-defined]
        importances = module.model.importance_of(probes)
        importances = {title: importances[call] for title, call in tables_of(module.model, importances).items()}
        if not trainer.is_global_zero:
            return
        known = module.target.known_mechanisms() if isinstance(module.target, KnownMechanisms) else {}
        tables, most = {}, {}
        for name, importance in importances.items():
            kind = known[name].kind if name in known else None
            order = pattern_order(importance.lower, kind)
            last = _last_live(importance.lower[:, order], self.threshold)
            for panel, table in self._panels(name, importance).items():
                tables[panel], most[panel] = table[:, order], max(self.max_components, last)
        publish_figure(
            trainer, f"{stage}/importance_heatmap", importance_heatmap(tables, most, module.model.own_importance)
        )

    def _panels(self, site: str, importance: CausalImportance) -> dict[str, Tensor]:
        if self.sigmoid == "lower":
            return {site: importance.lower}
        panels = {f"{site}, lower-leaky": importance.lower, f"{site}, upper-leaky": importance.upper}
        return panels if self.sigmoid == "both" else dict(list(panels.items())[1:])


def _last_live(ordered: Tensor, threshold: float) -> int:
    """Number of columns up to the last live one."""
    live = torch.nonzero(alive_components(ordered, threshold)).flatten().tolist()
    return 1 + live[-1] if live else 0
