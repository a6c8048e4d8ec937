"""A loss on what components write, whatever their importance."""

from torch import Tensor

from spd_lightning.errors import check_list
from spd_lightning.functional import contribution_sparsity, full_precision
from spd_lightning.losses.base import Loss
from spd_lightning.losses.step import Step
from spd_lightning.model import DecomposedModel


class ContributionSparsity(Loss):
    """Summed length of what every component writes, mean over examples (ours).

    Of two components that are both important on an example nothing else says how they divide what the target's layer
    writes there: masks leave both alone, and their sum is all that faithfulness sees. This term says that one should
    write it. A component then no longer reads what is another's, and its gate can close on it.

    Args:
        coefficient: weight of the term. One that is too large makes features share components.
        sites: ``fnmatch`` patterns of the sites it is taken over; ``None`` for all. It suits sites that should come
            apart into one component per feature, not those whose components act together.
    """

    needs = DecomposedModel

    def __init__(self, coefficient: float = 1e-4, sites: list[str] | None = None) -> None:
        super().__init__(coefficient)
        check_list("ContributionSparsity: sites", [] if sites is None else sites)
        self.sites = ["*"] if sites is None else list(sites)

    def forward(self, step: Step) -> Tensor:
        """See :func:`spd_lightning.functional.contribution_sparsity`."""
        names = self.matching(self.sites, step.model.site_names)
        read = [step.inner(name) for name in names]  # a product like any other, rounded under mixed precision
        with full_precision(read[0]):
            write = [step.model.components[name].U for name in names]
            return contribution_sparsity(zip(read, write, strict=True), step.weights)
