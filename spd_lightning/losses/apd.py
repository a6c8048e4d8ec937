"""Losses of the baseline: minimality, simplicity, hidden activations (APD paper, section 2 and its released code)."""

from torch import Tensor

from spd_lightning.errors import check_list
from spd_lightning.functional import full_precision, hidden_error, simplicity
from spd_lightning.losses.base import Loss, check_positive
from spd_lightning.losses.step import Step
from spd_lightning.model import AttributedForm, AttributedModel
from spd_lightning.model.wrapping import site_of


def _form(step: Step) -> AttributedForm:
    assert isinstance(step.form, AttributedForm)  # the method sees to that, see Loss.needs
    return step.form


def _mask(step: Step) -> Tensor:
    """Which components each example keeps, 0 or 1, ``[..., C]``."""
    return next(iter(step.importance.values())).lower


class Minimality(Loss):
    """Squared error of the network on each batch's most attributed components alone (APD paper, section 2.2).

    Args:
        coefficient: weight of the term; 1 in the paper's 5-2 toy model, 10 in its 40-10.
    """

    needs = AttributedModel

    def forward(self, step: Step) -> Tensor:
        """Mean over examples and outputs."""
        return step.distance("mse", _form(step).sparse.output)


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
        factors, mask = {name: (parts.V, parts.U) for name, parts in step.model.components.items()}, _mask(step)
        with full_precision(mask):
            return simplicity(factors, mask, self.p, step.weights_of(mask))


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
        names, form = self.matching(self.sites, step.model.site_names), _form(step)
        wanted = {call: form.clean_output(call) for call in step.importance if site_of(call) in names}
        return hidden_error(form.sparse.kept, wanted, step.weights_of(next(iter(wanted.values()))))
