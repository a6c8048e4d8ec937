"""Which component answers to which feature."""

from typing import Literal, get_args

from lightning.pytorch import Trainer
from torch import Tensor

from spd_lightning.callbacks.evaluation import (
    SEQUENCES,
    EvaluationCallback,
    check_probes,
    matched_components,
    probes_of,
    tables_of,
)
from spd_lightning.callbacks.publishing import publish_figure
from spd_lightning.errors import check_choice
from spd_lightning.figures import importance_heatmap
from spd_lightning.functional import ALIVE_THRESHOLD
from spd_lightning.losses import check_positive
from spd_lightning.methods import Decomposition
from spd_lightning.model import CausalImportance
from spd_lightning.targets import OwnProbes

Sigmoid = Literal["lower", "upper", "both"]


class ImportanceHeatmaps(EvaluationCallback):
    """Draws per site the importances on one-hot probes, or on the first four that a target has of its own.

    Columns are the alive components, in the order of the features that they match best one to one; where the target
    is known to have a dense block, by their sum, largest first. The lower-leaky importances decide on both, whichever
    are drawn.

    Args:
        probe: magnitude of the one-hot probes; 0.75 in the paper's figures.
        every_n_validations: how often the picture is drawn while training.
        sigmoid: ``"lower"``, the importances that make the masks; ``"upper"``, those of the penalty, as in the paper's
            Figures 12 and 13; or ``"both"``, side by side.
        threshold: lower-leaky importance above which a component is alive.

    Raises:
        UsageError: for another ``sigmoid``.
    """

    def __init__(
        self,
        probe: float = 0.75,
        every_n_validations: int = 5,
        sigmoid: Sigmoid = "lower",
        threshold: float = ALIVE_THRESHOLD,
    ) -> None:
        super().__init__(every_n_validations)
        check_choice("sigmoid", sigmoid, get_args(Sigmoid))
        check_positive("probe", probe)
        check_positive("threshold", threshold, allow_zero=True)
        self.probe, self.sigmoid, self.threshold = probe, sigmoid, threshold

    def setup(self, trainer: Trainer, pl_module: Decomposition, stage: str) -> None:  # type: ignore[override]
        """Check that there are probes."""
        if stage != "predict":
            check_probes(self, trainer, pl_module)

    def finish(self, trainer: Trainer, module: Decomposition, stage: str) -> None:
        """Draw the picture on rank zero."""
        own = isinstance(module.target, OwnProbes)
        probes = probes_of(trainer, module, self.probe)[: SEQUENCES if own else None]
        found = module.model.importance_of(probes)
        importances = {title: _in_rows(found[call]) for title, call in tables_of(module.model, found).items()}
        if not trainer.is_global_zero:
            return
        alive = matched_components(module, {name: table.lower for name, table in importances.items()}, self.threshold)
        tables, shown = {}, {}
        for name, importance in importances.items():
            for panel, table in self._panels(name, importance).items():
                tables[panel], shown[panel] = table, alive[name]
        rows = ("probes at their positions", "position of a probe") if own else ()
        figure = importance_heatmap(tables, shown, module.model.own_importance, *rows)
        publish_figure(trainer, f"{stage}/importance_heatmap", figure, tables)

    def _panels(self, site: str, importance: CausalImportance) -> dict[str, Tensor]:
        if self.sigmoid == "lower":
            return {site: importance.lower}
        panels = {f"{site}, lower-leaky": importance.lower, f"{site}, upper-leaky": importance.upper}
        return panels if self.sigmoid == "both" else dict(list(panels.items())[1:])


def _in_rows(importance: CausalImportance) -> CausalImportance:
    """A row for every position of every probe."""
    return CausalImportance(*(values.flatten(0, -2) for values in importance))
