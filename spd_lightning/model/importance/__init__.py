"""Functions that predict causal importances."""

from spd_lightning.model.importance.base import Features, ImportanceFunction, InnerActivations, SiteFunction, SiteShape
from spd_lightning.model.importance.gate import GateMLP
from spd_lightning.model.importance.per_site import PerSite
from spd_lightning.model.importance.transformer import SiteTransformer
from spd_lightning.model.importance.vector import InnerMLP, SharedMLP, VectorMLP

__all__ = [
    "Features",
    "GateMLP",
    "ImportanceFunction",
    "InnerActivations",
    "InnerMLP",
    "PerSite",
    "SharedMLP",
    "SiteFunction",
    "SiteShape",
    "SiteTransformer",
    "VectorMLP",
]
