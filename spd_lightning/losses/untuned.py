"""An objective for a network that nobody has tuned anything for (ours): every term in units of the network itself."""

from spd_lightning.functional.distances import DistanceKind
from spd_lightning.losses.base import Loss
from spd_lightning.losses.penalties import ImportanceMinimality, RelativeFaithfulness
from spd_lightning.losses.reconstruction import Reconstruction


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
