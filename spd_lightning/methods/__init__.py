"""LightningModules, one per method."""

from spd_lightning.methods.base import Decomposition
from spd_lightning.methods.optimization import Optimization, Warmup
from spd_lightning.methods.speed import Speed
from spd_lightning.methods.stochastic import StochasticDecomposition

__all__ = ["Decomposition", "Optimization", "Speed", "StochasticDecomposition", "Warmup"]
