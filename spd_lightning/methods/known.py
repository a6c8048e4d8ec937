"""All methods, by the name that configs and checkpoints give them."""

from spd_lightning.methods.attribution import AttributionDecomposition
from spd_lightning.methods.guarded import GuardedDecomposition
from spd_lightning.methods.stochastic import StochasticDecomposition

METHODS: dict[str, type[GuardedDecomposition]] = {
    cls.method: cls for cls in (StochasticDecomposition, AttributionDecomposition)
}
