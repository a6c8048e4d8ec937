"""Which component answers to which feature."""

from lightning.pytorch import Trainer

from callbacks.evaluation import EvaluationCallback, check_probes, probe_importances
from callbacks.publishing import publish_figure
from spd_lightning.figures import importance_heatmap
from spd_lightning.functional import identity_order
from spd_lightning.methods import Decomposition


class ImportanceHeatmaps(EvaluationCallback):
    """Draws per site the lower-leaky importances on one-hot probes, columns permuted to the best one-to-one matching.

    Args:
        probe: magnitude of the one-hot probes; 0.75 in the paper's figures.
        max_components: number of columns drawn.
        every_n_validations: how often the picture is drawn while training.
    """

    def __init__(self, probe: float = 0.75, max_components: int = 128, every_n_validations: int = 5) -> None:
        super().__init__(every_n_validations)
        self.probe, self.max_components = probe, max_components

    def setup(self, trainer: Trainer, pl_module: Decomposition, stage: str) -> None:  # type: ignore[override]
        """Check that there are probes."""
        if stage != "predict":
            check_probes(self, trainer)

    def finish(self, trainer: Trainer, module: Decomposition, stage: str) -> None:
        """Draw the picture on rank zero."""
        tables = probe_importances(trainer, module, self.probe)
        if trainer.is_global_zero:
            ordered = {name: table[:, identity_order(table)] for name, table in tables.items()}
            publish_figure(trainer, f"{stage}/importance_heatmap", importance_heatmap(ordered, self.max_components))
