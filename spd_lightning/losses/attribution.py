"""Losses of the baseline: minimality, simplicity, hidden activations (APD paper, section 2 and its released code)."""

from dataclasses import dataclass, field
from typing import cast

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from spd_lightning.errors import check_list
from spd_lightning.functional import distance, full_precision, hidden_error, simplicity
from spd_lightning.losses.base import Loss, check_positive
from spd_lightning.losses.sources import fixed_masks
from spd_lightning.losses.step import Step
from spd_lightning.model import AttributedModel, AttributedPass
from spd_lightning.model.attributed import SparsePass


@dataclass(frozen=True)
class AttributedStep(Step):
    """A step whose masks are the batch's largest attributions, the same for every site.

    Attributes:
        attributed_pass: the batch's fast form; ``None`` runs the network plainly.
        kept: the pass under these masks, once it has been made.
    """

    attributed_pass: AttributedPass | None = None
    kept: dict[str, SparsePass] = field(default_factory=dict)

    @property
    def mask(self) -> Tensor:
        """0 or 1, ``[..., C]``."""
        return next(iter(self.importance.values())).lower

    @property
    def sparse(self) -> SparsePass:
        """The network on the chosen components alone; run once for all losses."""
        if not self.kept:
            self.kept["sparse"] = self._run()
        return self.kept["sparse"]

    def clean_output(self, site: str) -> Tensor:
        """What the target's own site puts out, ``[..., d_out]``."""
        if self.attributed_pass is not None and site in self.attributed_pass.clean_outputs:
            return self.attributed_pass.clean_outputs[site]
        layer = self.model.components[site].site
        return F.linear(self.clean.site_inputs[site], layer.weight, layer.bias)

    def _run(self) -> SparsePass:
        if self.attributed_pass is not None:
            return self.attributed_pass.sparse(self.mask)
        return cast(AttributedModel, self.model).sparse(self.x, fixed_masks(self, "ci"))


class Minimality(Loss):
    """Squared error of the network on each batch's most attributed components alone (APD paper, section 2.2).

    Args:
        coefficient: weight of the term; 1 in the paper's 5-2 toy model, 10 in its 40-10.
    """

    needs = AttributedModel

    def forward(self, step: Step) -> Tensor:
        """Mean over examples and outputs."""
        assert isinstance(step, AttributedStep)
        return distance("mse", step.sparse.output, step.clean.output, step.weights)


class Simplicity(Loss):
    """Schatten quasi-norm of the components that each example uses (APD paper, section 2.3).

    Args:
        coefficient: weight of the term; 0.7 in the paper's 5-2 toy model, 20 in its 40-10.
        p: the exponent, above 0; 1 and 0.9 there.
    """

    needs = AttributedModel

    def __init__(self, coefficient: float = 1.0, p: float = 1.0) -> None:
        super().__init__(coefficient)
        self.p = check_positive("p", p)

    def forward(self, step: Step) -> Tensor:
        """See :func:`spd_lightning.functional.simplicity`."""
        assert isinstance(step, AttributedStep)
        factors = {name: (parts.V, parts.U) for name, parts in step.model.components.items()}
        with full_precision(step.mask):
            return simplicity(factors, step.mask, self.p, step.weights)


class HiddenActivations(Loss):
    """Squared error of ReLU activations of the network on the chosen components alone (APD paper, residual MLPs).

    Args:
        coefficient: weight of the term; 1 in the paper's residual MLPs.
        sites: ``fnmatch`` patterns of the sites whose output goes through a ReLU.
    """

    needs = AttributedModel

    def __init__(self, coefficient: float = 1.0, sites: list[str] | None = None) -> None:
        super().__init__(coefficient)
        check_list("HiddenActivations: sites", [] if sites is None else sites)
        self.sites = ["*mlp_in"] if sites is None else list(sites)

    def forward(self, step: Step) -> Tensor:
        """See :func:`spd_lightning.functional.hidden_error`."""
        assert isinstance(step, AttributedStep)
        wanted = {name: step.clean_output(name) for name in self.matching(self.sites, step.model.site_names)}
        return hidden_error(step.sparse.site_outputs, wanted, step.weights)
