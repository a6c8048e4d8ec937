"""Networks with known mechanisms, how they are trained once, how any network is loaded."""

from spd_lightning.targets.attention_only import AttentionOnly
from spd_lightning.targets.classifier import CNN, MLP, ClassifierTraining
from spd_lightning.targets.hugging_face import HuggingFaceModel
from spd_lightning.targets.induction import HandMadeInduction
from spd_lightning.targets.language_model import LanguageModel, LanguageModelTraining
from spd_lightning.targets.mechanisms import (
    FourierMechanisms,
    FourierSite,
    KnownMechanisms,
    Mechanisms,
    OwnProbes,
    Terms,
)
from spd_lightning.targets.modular_addition import ModularAddition, ModularAdditionTraining
from spd_lightning.targets.ping_pong import PingPong
from spd_lightning.targets.recipes import LoadedWeights, TargetRecipe
from spd_lightning.targets.residual_mlp import ResidualMLP
from spd_lightning.targets.superposition import ToyModelOfSuperposition
from spd_lightning.targets.training import FeatureTraining, TargetTraining
from spd_lightning.targets.unfused import Unfused, unfused

__all__ = [
    "CNN",
    "MLP",
    "AttentionOnly",
    "ClassifierTraining",
    "FeatureTraining",
    "FourierMechanisms",
    "FourierSite",
    "HandMadeInduction",
    "HuggingFaceModel",
    "KnownMechanisms",
    "LanguageModel",
    "LanguageModelTraining",
    "LoadedWeights",
    "Mechanisms",
    "ModularAddition",
    "ModularAdditionTraining",
    "OwnProbes",
    "PingPong",
    "ResidualMLP",
    "TargetRecipe",
    "TargetTraining",
    "Terms",
    "ToyModelOfSuperposition",
    "Unfused",
    "unfused",
]
