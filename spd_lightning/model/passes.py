"""What runs of a target and its decomposition give."""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from spd_lightning.functional.weights import EVEN, Weights


class CleanPass(NamedTuple):
    """The target's own output, and what reached the sites.

    Attributes:
        output: ``[..., d]``.
        site_inputs: what each site call's module was called with, by call: the site's name where it is called once,
            ``site@0``, ``site@1``, ... where it is called several times.
        weights: what the batch's positions weigh.
    """

    output: Tensor
    site_inputs: Mapping[str, Tensor]
    weights: Weights = EVEN


class MaskedPass(NamedTuple):
    """The masked network's output ``[..., d]``, and what was kept on the way, by name."""

    output: Tensor
    kept: Mapping[str, Tensor]


class CausalImportance(NamedTuple):
    """Logits of a site call and their two sigmoids, ``[..., C]`` each: ``lower`` for masks, ``upper`` for penalties."""

    logits: Tensor
    lower: Tensor
    upper: Tensor
