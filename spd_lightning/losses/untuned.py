"""An objective for a network that nobody has tuned anything for (ours): every term in units of the network itself."""

from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

from spd_lightning.functional.distances import DistanceKind
from spd_lightning.losses.base import Loss
from spd_lightning.losses.penalties import ImportanceMinimality, RelativeFaithfulness
from spd_lightning.losses.reconstruction import Reconstruction
from spd_lightning.model import TargetCall
from spd_lightning.model.call import LOGITS, class_numbers


def untuned_losses(distance: DistanceKind = "mse", coefficient: float = 0.01) -> dict[str, Loss]:
    """Terms that need no tuning to the size of a network.

    Args:
        distance: of outputs; ``"kl"`` for logits.
        coefficient: what a component must be worth to be kept, as a share of what ablating everything costs. More of
            it gives fewer components.

    Returns:
        Faithfulness relative to the size of each matrix; stochastic and adversarial reconstruction relative to the
        cost of ablating everything; importance minimality, its exponent going from 2 to 0.5.
    """
    return {
        "faithfulness": RelativeFaithfulness(30.0),
        "stochastic": Reconstruction(routing="subset", distance=distance, relative=True),
        "adversary": Reconstruction(
            sources="adversarial", distance=distance, adversary_steps=4, adversary_step_size=0.5, relative=True
        ),
        "importance": ImportanceMinimality(coefficient, p=2.0, p_final=0.5, anneal_start=0.2, anneal_end=0.8),
    }


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
