"""nn.Modules: components, causal-importance functions and decomposed models. No Lightning here."""

from spd_lightning.model.attributed import AttributedModel
from spd_lightning.model.attributed_pass import AttributedPass
from spd_lightning.model.ci_fns import CIFunction, GateMLP, SharedMLP
from spd_lightning.model.component_model import CausalImportance, CleanPass, ComponentModel
from spd_lightning.model.components import Components, TransposedComponents
from spd_lightning.model.decomposed import DecomposedModel
from spd_lightning.model.fast import FastOptions, FastPass
from spd_lightning.model.full_components import FullComponents, TransposedFullComponents
from spd_lightning.model.masks import Mask, SiteMask, UniformMask
from spd_lightning.model.site_components import SiteComponents

__all__ = [
    "AttributedModel",
    "AttributedPass",
    "CIFunction",
    "CausalImportance",
    "CleanPass",
    "ComponentModel",
    "Components",
    "DecomposedModel",
    "FastOptions",
    "FastPass",
    "FullComponents",
    "GateMLP",
    "Mask",
    "SharedMLP",
    "SiteComponents",
    "SiteMask",
    "TransposedComponents",
    "TransposedFullComponents",
    "UniformMask",
]
