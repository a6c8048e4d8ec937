"""One importance function per site, each reading its own site alone."""

from collections.abc import Callable, Mapping

from torch import Generator, Tensor

from spd_lightning.model.importance.base import Features, ImportanceFunction, SiteFunction, SiteShape
from spd_lightning.model.importance.gate import GateMLP
from spd_lightning.model.site_dict import SiteDict
from spd_lightning.model.wrapping import site_of

SiteFactory = Callable[[int, int], SiteFunction]
"""Builds the function of one site from ``C`` and the width of its features."""


class PerSite(ImportanceFunction):
    """An independent function for every site (SPD paper); all calls of a site share it.

    Args:
        sites: shapes of the sites by name.
        function: builds a site's function from ``(C, d_in)``, for example ``GateMLP`` or
            ``functools.partial(GateMLP, hidden=[8, 8])``.
    """

    def __init__(self, sites: Mapping[str, SiteShape], function: SiteFactory = GateMLP) -> None:
        super().__init__(sites)
        self.functions: SiteDict[SiteFunction] = SiteDict({name: function(*shape) for name, shape in sites.items()})

    @property
    def function(self) -> SiteFunction:
        """The first site's function; those of the other sites have the same hyper-parameters."""
        return next(iter(self.functions.values()))

    def reset(self, generator: Callable[[str], Generator]) -> None:
        """Draw every site's parameters from a generator of its own."""
        for name, function in self.functions.items():
            function.reset(generator(name))

    def of_call(self, call: str) -> SiteFunction:
        """The function of a call's site."""
        return self.functions[site_of(call)]

    @property
    def is_separable(self) -> bool:
        """Whether every call's logits are its own site's function's, as here; a subclass may do otherwise."""
        return type(self).forward is PerSite.forward and type(self).at is PerSite.at

    def gate_of(self, call: str) -> GateMLP | None:
        """The function of a call's site if it is a gate whose values a table can hold."""
        function = self.of_call(call)
        return function if isinstance(function, GateMLP) and function.tabulated() else None

    def forward(self, inner: Mapping[str, Tensor], features: Features) -> dict[str, Tensor]:
        """Every call's logits from its own activations."""
        return {call: self.at(call, inner, features) for call in inner}

    def at(self, call: str, inner: Mapping[str, Tensor], features: Features) -> Tensor:
        """One call's logits, ``[..., C]``."""
        function = self.of_call(call)
        logits: Tensor = function(
            inner[call] if function.reads_inner else None, features[call] if function.reads_features else None
        )
        return logits
