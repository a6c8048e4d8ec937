"""Take a trained neural network apart into the mechanisms its weights implement."""

import spd_lightning._threads  # noqa: F401 (first: it must come before torch)
from spd_lightning.data import DatasetBatches, SparseFeatures
from spd_lightning.errors import UsageError
from spd_lightning.losses import (
    ActivationReconstruction,
    ContributionSparsity,
    Faithfulness,
    FrequencyMinimality,
    HiddenActivations,
    ImportanceCovariance,
    ImportanceMinimality,
    Loss,
    Minimality,
    Reconstruction,
    Simplicity,
)
from spd_lightning.methods import AttributionDecomposition, Optimization, Speed, StochasticDecomposition, Warmup
from spd_lightning.model import (
    AttributedModel,
    AutomaticCall,
    DecomposedModel,
    GateMLP,
    Grouping,
    ImportanceFunction,
    KeywordCall,
    PerSite,
    PositionalCall,
    SharedMLP,
    Site,
    SiteFunction,
    SiteMask,
    SiteTransformer,
    TargetCall,
    VectorMLP,
)
from spd_lightning.targets import FeatureTraining, LoadedWeights, ResidualMLP, ToyModelOfSuperposition, Unfused

__version__ = "0.2.0"

__all__ = [
    "ActivationReconstruction",
    "AttributedModel",
    "AttributionDecomposition",
    "AutomaticCall",
    "ContributionSparsity",
    "DatasetBatches",
    "DecomposedModel",
    "Faithfulness",
    "FeatureTraining",
    "FrequencyMinimality",
    "GateMLP",
    "Grouping",
    "HiddenActivations",
    "ImportanceCovariance",
    "ImportanceFunction",
    "ImportanceMinimality",
    "KeywordCall",
    "LoadedWeights",
    "Loss",
    "Minimality",
    "Optimization",
    "PerSite",
    "PositionalCall",
    "Reconstruction",
    "ResidualMLP",
    "SharedMLP",
    "Simplicity",
    "Site",
    "SiteFunction",
    "SiteMask",
    "SiteTransformer",
    "SparseFeatures",
    "Speed",
    "StochasticDecomposition",
    "TargetCall",
    "ToyModelOfSuperposition",
    "Unfused",
    "UsageError",
    "VectorMLP",
    "Warmup",
]
