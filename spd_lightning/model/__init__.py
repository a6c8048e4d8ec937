"""nn.Modules: components, causal-importance functions and the decomposed model. No Lightning here."""

from spd_lightning.model.ci_fns import CIFunction, GateMLP, SharedMLP
from spd_lightning.model.components import Components, TransposedComponents
from spd_lightning.model.decomposed import CausalImportance, CleanPass, DecomposedModel
from spd_lightning.model.fast import FastOptions, FastPass
from spd_lightning.model.masks import Mask, SiteMask, UniformMask

__all__ = [
    "CIFunction",
    "CausalImportance",
    "CleanPass",
    "Components",
    "DecomposedModel",
    "FastOptions",
    "FastPass",
    "GateMLP",
    "Mask",
    "SharedMLP",
    "SiteMask",
    "TransposedComponents",
    "UniformMask",
]
