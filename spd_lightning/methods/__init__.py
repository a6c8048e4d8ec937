"""LightningModules, one per method."""

from spd_lightning.methods.apd import AttributionDecomposition
from spd_lightning.methods.compared import saved_distance
from spd_lightning.methods.decomposition import Decomposition
from spd_lightning.methods.default_recipe import default_recipe
from spd_lightning.methods.known import METHODS
from spd_lightning.methods.merging import Merging
from spd_lightning.methods.optimization import Optimization, Warmup
from spd_lightning.methods.repeat import RepeatedStep, repeat_step
from spd_lightning.methods.speed import Speed
from spd_lightning.methods.stochastic import StochasticDecomposition

__all__ = [
    "METHODS",
    "AttributionDecomposition",
    "Decomposition",
    "Merging",
    "Optimization",
    "RepeatedStep",
    "Speed",
    "StochasticDecomposition",
    "Warmup",
    "default_recipe",
    "repeat_step",
    "saved_distance",
]
