"""All methods, by the name that configs and checkpoints give them."""

from spd_lightning.methods.apd import AttributionDecomposition
from spd_lightning.methods.decomposition import Decomposition
from spd_lightning.methods.stochastic import StochasticDecomposition

METHODS: dict[str, type[Decomposition]] = {
    cls.method: cls for cls in (StochasticDecomposition, AttributionDecomposition)
}
