"""The recipe that is the same for every network, in Python; ``configs/default.yaml`` has it for the command line."""

from functools import partial
from typing import Any

from spd_lightning.functional.distances import DistanceKind
from spd_lightning.losses import check_positive, untuned_losses
from spd_lightning.losses.untuned import TOLERATED
from spd_lightning.methods.merging import Merging
from spd_lightning.methods.optimization import Optimization, Warmup
from spd_lightning.model import InnerMLP, PerSite
from spd_lightning.model.decomposed import ImportanceFactory

STEPS = 4000
"""Of training, with which the recipe was tested."""
WARM_UP = Warmup(steps=0.1)
"""A tenth as long as training."""
LEARNING_RATE, MLP_RATE = 3e-3, 9e-3
"""Of components, and of the importance function below beside them."""
UNTUNED_IMPORTANCE = partial(PerSite, function=partial(InnerMLP, hidden=[256]))
"""The importance function of a network that nobody has tuned anything for."""


def default_recipe(
    distance: DistanceKind = "mse",
    importance: ImportanceFactory | None = None,
    *,
    tolerance: float = TOLERATED,
    lr: float = LEARNING_RATE,
) -> dict[str, Any]:
    """Arguments of :class:`StochasticDecomposition` that are the same for every network (ours).

    ``StochasticDecomposition(network, sites, **default_recipe("kl"))`` is what ``fit`` makes of ``default.yaml`` and
    ``default_logits.yaml``, and with ``importance=SiteTransformer`` of ``default_sequences.yaml`` as well.

    Args:
        distance: of outputs; ``"kl"`` for logits.
        importance: builds the importance function; ``None`` for an MLP per site. Networks that read sequences want
            ``SiteTransformer``: what a component is needed for may stand at another position.
        tolerance: of :func:`untuned_losses <spd_lightning.losses.untuned_losses>`.
        lr: learning rate of components, and of an importance function that is given; the MLP's is three times as high.

    Raises:
        UsageError: for a value outside its range.
    """
    check_positive("lr", lr)
    rate = lr / LEARNING_RATE * MLP_RATE if importance is None else lr
    return {
        "losses": untuned_losses(distance, tolerance),
        "importance": UNTUNED_IMPORTANCE if importance is None else importance,
        "leak": "one_sided",
        "use_delta": True,
        "init": "adaptive",
        "warmup": WARM_UP,
        "merging": Merging(start=0.6),
        "optimization": Optimization(
            lr=lr,
            importance_lr=rate,
            importance_weight_decay=0.3,
            schedule="quarter_cosine",
            clip_components=1.0,
            clip_importance=None,
        ),
    }
