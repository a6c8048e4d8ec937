"""One nn.Module per loss: a coefficient and schedule around ``functional``."""

from spd_lightning.losses.base import Loss, check_positive
from spd_lightning.losses.penalties import Faithfulness, FrequencyMinimality, ImportanceMinimality
from spd_lightning.losses.reconstruction import Reconstruction
from spd_lightning.losses.step import Noise, Step

__all__ = [
    "Faithfulness",
    "FrequencyMinimality",
    "ImportanceMinimality",
    "Loss",
    "Noise",
    "Reconstruction",
    "Step",
    "check_positive",
]
