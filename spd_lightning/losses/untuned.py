"""An objective for a network that nobody has tuned anything for (ours): every term in units of the network itself."""

from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

from spd_lightning.functional.distances import DistanceKind
from spd_lightning.losses.base import Loss
from spd_lightning.losses.constrained import ConstrainedImportance
from spd_lightning.losses.penalties import RelativeFaithfulness
from spd_lightning.losses.reconstruction import Reconstruction
from spd_lightning.losses.sitewise import ContributionSparsity
from spd_lightning.model import TargetCall
from spd_lightning.model.call import LOGITS, class_numbers

TOLERATED = 0.02
"""Share of what ablating everything costs that random ablation may cost in the end."""
BEGINS_AT = 2.5
"""What is tolerated at first, as a multiple of the tolerance."""
ADVERSARY = 4.0
"""What an adversary may cost, as a multiple of what random ablation may."""


def untuned_losses(distance: DistanceKind = "mse", tolerance: float = TOLERATED) -> dict[str, Loss]:
    """Terms that need no tuning to the size of a network, those of ``configs/default.yaml``.

    Args:
        distance: of outputs; ``"kl"`` for logits.
        tolerance: what random ablation of the unimportant may cost, as a share of what ablating everything costs. More
            of it gives fewer components.

    Returns:
        Faithfulness relative to the size of each matrix; stochastic and adversarial reconstruction relative to the
        cost of ablating everything; a price of importance that keeps both at what is tolerated; and from half of
        training on one of contributions, so that of components that act together each writes its own part.

    Raises:
        UsageError: for a tolerance that is not above 0 and below 0.25; an adversary might do what ablating everything
            does.
    """
    return {
        "faithfulness": RelativeFaithfulness(30.0),
        "stochastic": Reconstruction(routing="subset", distance=distance, relative=True),
        "adversary": Reconstruction(
            sources="adversarial", distance=distance, adversary_steps=4, adversary_step_size=0.5, relative=True
        ),
        "importance": _price(tolerance),
        "contributions": ContributionSparsity(
            0.0, coefficient_points=[(0.5, 0.03), (0.7, 0.1), (0.85, 0.1), (1.0, 0.02)], relative=True
        ),
    }


def _price(tolerance: float) -> ConstrainedImportance:
    return ConstrainedImportance(
        tolerance,
        start_factor=BEGINS_AT,
        fall_start=0.5,
        fall_end=0.95,
        follows={"stochastic": 1.0, "adversary": ADVERSARY},
        cliff_points=[(0.5, 200.0), (0.7, 20.0)],
        frequency_exponent=1.0,
        frequency_exponent_final=-0.75,
        coefficient=1e-4,
        p=1.0,
        p_final=0.5,
        anneal_start=0.5,
        anneal_end=0.9,
    )


def guessed_distance(call: TargetCall, batch: Any, output: Tensor) -> tuple[DistanceKind, str]:
    """How outputs are best compared, as far as a batch tells.

    Args:
        call: how the batch becomes the target's arguments.
        batch: as the call takes it.
        output: the target's, ``[..., d]``.

    Returns:
        ``"kl"`` for what seem to be logits, else ``"mse"``; and why.
    """
    if call.output == LOGITS:
        return "kl", "the output is named logits"
    if call.fitting_labels(batch, output) is not None:
        return "kl", "the output has a number for every class that the labels name"
    if output.isneginf().any():
        return "kl", "the output holds minus infinity, as logits do"
    arguments = call.arguments(batch)
    tensors = [leaf for leaf in tree_leaves((arguments.args, arguments.kwargs)) if isinstance(leaf, Tensor)]
    tokens = class_numbers(tensors[0]) if tensors else None
    if tokens is not None and tokens.numel() and output.shape[-1] > int(tokens.max()):
        return "kl", "the input is tokens, and the output has a number for each of them"
    return "mse", "the output does not look like logits"
