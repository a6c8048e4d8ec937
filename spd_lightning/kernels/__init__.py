"""The hot parts of a training step: compiled where a C compiler is found, the same formulas in PyTorch elsewhere."""

from spd_lightning.kernels.build import build
from spd_lightning.kernels.divergence import divergences
from spd_lightning.kernels.faithfulness import Explained, mean_squared_rest
from spd_lightning.kernels.gates import Gate, table_error, tabulated_importance
from spd_lightning.kernels.masking import masked_chosen, masked_inner, row_uniforms
from spd_lightning.kernels.penalty import power_sums
from spd_lightning.kernels.sigmoids import leaky_sigmoids

__all__ = [
    "Explained",
    "Gate",
    "build",
    "divergences",
    "leaky_sigmoids",
    "masked_chosen",
    "masked_inner",
    "mean_squared_rest",
    "power_sums",
    "row_uniforms",
    "table_error",
    "tabulated_importance",
]
