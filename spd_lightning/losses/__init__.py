"""One nn.Module per loss: a coefficient and schedule around ``functional``."""

from spd_lightning.losses.activations import ActivationReconstruction
from spd_lightning.losses.apd import HiddenActivations, Minimality, Simplicity
from spd_lightning.losses.base import Loss, check_positive
from spd_lightning.losses.constrained import ConstrainedImportance
from spd_lightning.losses.penalties import (
    Faithfulness,
    FrequencyMinimality,
    ImportanceMinimality,
    RelativeFaithfulness,
)
from spd_lightning.losses.persistent import PersistentAdversary
from spd_lightning.losses.reconstruction import Reconstruction
from spd_lightning.losses.sitewise import ContributionSparsity, ImportanceCovariance, RankPenalty, SitewisePenalty
from spd_lightning.losses.smooth import SmoothFrequency, SmoothImportance
from spd_lightning.losses.step import Noise, Step
from spd_lightning.losses.untuned import guessed_distance, untuned_losses

__all__ = [
    "ActivationReconstruction",
    "ConstrainedImportance",
    "ContributionSparsity",
    "Faithfulness",
    "FrequencyMinimality",
    "HiddenActivations",
    "ImportanceCovariance",
    "ImportanceMinimality",
    "Loss",
    "Minimality",
    "Noise",
    "PersistentAdversary",
    "RankPenalty",
    "Reconstruction",
    "RelativeFaithfulness",
    "Simplicity",
    "SitewisePenalty",
    "SmoothFrequency",
    "SmoothImportance",
    "Step",
    "check_positive",
    "guessed_distance",
    "untuned_losses",
]
