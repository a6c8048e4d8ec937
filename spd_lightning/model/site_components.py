"""What components of one site have in common, whatever their rank."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class SiteComponents(nn.Module, ABC):
    """``C`` matrices in factors, whose sum stands in for a linear layer's weight.

    Attributes:
        V: read vectors ``[d_in, C]``, or ``[d_in, C, m]`` for components of rank up to ``m``.
        U: write vectors ``[C, d_out]``, or ``[C, m, d_out]``.
        n_components: ``C``.

    Args:
        site: the frozen layer, weight ``[d_out, d_in]``. It is referred to, not owned: it is no submodule
            and stays out of this module's state.
        n_components: ``C``.
    """

    V: Tensor
    U: Tensor

    def __init__(self, site: nn.Linear, n_components: int) -> None:
        super().__init__()
        self._site = (site,)  # a tuple hides the layer from nn.Module's registration
        self.n_components = n_components

    @property
    def site(self) -> nn.Linear:
        """The frozen layer that these components explain."""
        return self._site[0]

    @abstractmethod
    def inner(self, site_input: Tensor) -> Tensor:
        """What each component reads from ``[..., d_in]``: ``[..., C]`` or ``[..., C, m]``."""

    @abstractmethod
    def write(self, inner: Tensor, mask: Tensor) -> Tensor:
        """What masked components put out together, ``[..., d_out]``."""

    @abstractmethod
    def weight(self) -> Tensor:
        """Sum of the components, ``[d_out, d_in]``, in full precision."""

    def delta(self) -> Tensor:
        """What the components do not explain, ``W`` minus their sum, ``[d_out, d_in]``, with live gradient."""
        return self.site.weight - self.weight()

    def forward(self, site_input: Tensor, mask: Tensor, delta_mask: Tensor | None = None) -> Tensor:
        """Run the layer on masked components.

        Args:
            site_input: ``[..., d_in]``, the activation that arrives in the masked network.
            mask: ``[..., C]``, broadcastable over the leading dimensions.
            delta_mask: ``[...]``, the mask of the delta component; ``None`` leaves it out.

        Returns:
            ``[..., d_out]``, the frozen bias added once.
        """
        output = self.write(self.inner(site_input), mask)
        if delta_mask is not None:
            output = output + delta_mask[..., None] * (site_input @ self.delta().T)
        return output if self.site.bias is None else output + self.site.bias
