"""Take a trained neural network apart into the mechanisms its weights implement."""

import spd_lightning._threads  # noqa: F401 (first: it must come before torch)
from spd_lightning.data import DatasetBatches, SparseFeatures
from spd_lightning.errors import UsageError
from spd_lightning.losses import (
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
from spd_lightning.model import AttributedModel, CIFunction, DecomposedModel, GateMLP, SharedMLP, SiteMask
from spd_lightning.targets import FeatureTraining, LoadedWeights, ResidualMLP, ToyModelOfSuperposition

__version__ = "0.1.0"

__all__ = [
    "AttributedModel",
    "AttributionDecomposition",
    "CIFunction",
    "ContributionSparsity",
    "DatasetBatches",
    "DecomposedModel",
    "Faithfulness",
    "FeatureTraining",
    "FrequencyMinimality",
    "GateMLP",
    "HiddenActivations",
    "ImportanceCovariance",
    "ImportanceMinimality",
    "LoadedWeights",
    "Loss",
    "Minimality",
    "Optimization",
    "Reconstruction",
    "ResidualMLP",
    "SharedMLP",
    "Simplicity",
    "SiteMask",
    "SparseFeatures",
    "Speed",
    "StochasticDecomposition",
    "ToyModelOfSuperposition",
    "UsageError",
    "Warmup",
]
