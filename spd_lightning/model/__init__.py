"""nn.Modules: sites, components, importance functions and decomposed models. No Lightning here."""

from spd_lightning.model.attributed import AttributedModel
from spd_lightning.model.attributed_form import AttributedForm
from spd_lightning.model.attributed_pass import AttributedPass
from spd_lightning.model.call import AutomaticCall, KeywordCall, PositionalCall, TargetCall
from spd_lightning.model.component_model import ComponentModel
from spd_lightning.model.components import Components
from spd_lightning.model.decomposed import DecomposedModel
from spd_lightning.model.fast import FastForm, FastOptions
from spd_lightning.model.grouping import Grouping
from spd_lightning.model.importance import (
    GateMLP,
    ImportanceFunction,
    InnerMLP,
    PerSite,
    SharedMLP,
    SiteFunction,
    SiteTransformer,
    VectorMLP,
)
from spd_lightning.model.masks import Mask, SiteMask, UniformMask
from spd_lightning.model.passes import CausalImportance, CleanPass, MaskedPass
from spd_lightning.model.plain import Form, PlainForm
from spd_lightning.model.self_check import check_wrapping
from spd_lightning.model.sites import Site
from spd_lightning.model.ties import TiedComponents, TwinComponents
from spd_lightning.model.wrapping import Wrapping

__all__ = [
    "AttributedForm",
    "AttributedModel",
    "AttributedPass",
    "AutomaticCall",
    "CausalImportance",
    "CleanPass",
    "ComponentModel",
    "Components",
    "DecomposedModel",
    "FastForm",
    "FastOptions",
    "Form",
    "GateMLP",
    "Grouping",
    "ImportanceFunction",
    "InnerMLP",
    "KeywordCall",
    "Mask",
    "MaskedPass",
    "PerSite",
    "PlainForm",
    "PositionalCall",
    "SharedMLP",
    "Site",
    "SiteFunction",
    "SiteMask",
    "SiteTransformer",
    "TargetCall",
    "TiedComponents",
    "TwinComponents",
    "UniformMask",
    "VectorMLP",
    "Wrapping",
    "check_wrapping",
]
