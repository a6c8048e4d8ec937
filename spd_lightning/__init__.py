"""Take a trained neural network apart into the mechanisms its weights implement."""

from typing import TYPE_CHECKING, Any

import spd_lightning._threads  # noqa: F401 (first: it must come before torch)

if TYPE_CHECKING:
    from spd_lightning.data import DatasetBatches, Digits, ModularPairs, SparseFeatures, StreamedText, TextTokens
    from spd_lightning.errors import UsageError
    from spd_lightning.losses import (
        ActivationReconstruction,
        ConstrainedImportance,
        ContributionSparsity,
        Faithfulness,
        FrequencyMinimality,
        HiddenActivations,
        ImportanceCovariance,
        ImportanceMinimality,
        Loss,
        Minimality,
        PersistentAdversary,
        RankPenalty,
        Reconstruction,
        RelativeFaithfulness,
        Simplicity,
        SmoothFrequency,
        SmoothImportance,
        untuned_losses,
    )
    from spd_lightning.methods import (
        AttributionDecomposition,
        Merging,
        Optimization,
        Speed,
        StochasticDecomposition,
        Warmup,
        default_recipe,
    )
    from spd_lightning.model import (
        AttributedModel,
        AutomaticCall,
        DecomposedModel,
        GateMLP,
        Grouping,
        ImportanceFunction,
        InnerMLP,
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
    from spd_lightning.notebook import decompose
    from spd_lightning.targets import (
        CNN,
        MLP,
        ClassifierTraining,
        FeatureTraining,
        HuggingFaceModel,
        LanguageModel,
        LanguageModelTraining,
        LoadedWeights,
        ModularAddition,
        ModularAdditionTraining,
        ResidualMLP,
        ToyModelOfSuperposition,
        Unfused,
    )

__version__ = "0.2.0"

__all__ = [
    "CNN",
    "MLP",
    "ActivationReconstruction",
    "AttributedModel",
    "AttributionDecomposition",
    "AutomaticCall",
    "ClassifierTraining",
    "ConstrainedImportance",
    "ContributionSparsity",
    "DatasetBatches",
    "DecomposedModel",
    "Digits",
    "Faithfulness",
    "FeatureTraining",
    "FrequencyMinimality",
    "GateMLP",
    "Grouping",
    "HiddenActivations",
    "HuggingFaceModel",
    "ImportanceCovariance",
    "ImportanceFunction",
    "ImportanceMinimality",
    "InnerMLP",
    "KeywordCall",
    "LanguageModel",
    "LanguageModelTraining",
    "LoadedWeights",
    "Loss",
    "Merging",
    "Minimality",
    "ModularAddition",
    "ModularAdditionTraining",
    "ModularPairs",
    "Optimization",
    "PerSite",
    "PersistentAdversary",
    "PositionalCall",
    "RankPenalty",
    "Reconstruction",
    "RelativeFaithfulness",
    "ResidualMLP",
    "SharedMLP",
    "Simplicity",
    "Site",
    "SiteFunction",
    "SiteMask",
    "SiteTransformer",
    "SmoothFrequency",
    "SmoothImportance",
    "SparseFeatures",
    "Speed",
    "StochasticDecomposition",
    "StreamedText",
    "TargetCall",
    "TextTokens",
    "ToyModelOfSuperposition",
    "Unfused",
    "UsageError",
    "VectorMLP",
    "Warmup",
    "decompose",
    "default_recipe",
    "untuned_losses",
]


def __getattr__(name: str) -> Any:
    """Import the rooms when the first of their names is asked for: a misspelt command is answered without them."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from spd_lightning import data, errors, losses, methods, model, targets

    rooms = [data, errors, losses, methods, model, targets]
    if name == "decompose":
        from spd_lightning import notebook

        rooms = [notebook]
    return getattr(next(room for room in rooms if hasattr(room, name)), name)
