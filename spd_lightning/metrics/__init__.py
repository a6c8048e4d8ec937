"""torchmetrics around ``functional``: sums and counts, reduced over processes before they are divided."""

from spd_lightning.metrics.activity import ActiveComponents, AliveComponents, MeanCausalImportance
from spd_lightning.metrics.distance import MeanDistance
from spd_lightning.metrics.recovery import (
    DenseContradictions,
    IdentityContradictions,
    MeanL2Ratio,
    MeanMaxCosineSimilarity,
)

__all__ = [
    "ActiveComponents",
    "AliveComponents",
    "DenseContradictions",
    "IdentityContradictions",
    "MeanCausalImportance",
    "MeanDistance",
    "MeanL2Ratio",
    "MeanMaxCosineSimilarity",
]
