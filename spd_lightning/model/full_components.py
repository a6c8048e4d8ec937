"""Components of any rank of one site: its share of parameter vectors that span all sites (APD paper, section 2)."""

import torch
from torch import Generator, Tensor, nn

from spd_lightning.functional import full_precision
from spd_lightning.model.site_components import SiteComponents


class FullComponents(SiteComponents):
    """``C`` matrices of rank up to ``m``, ``sum_m U[c, m] ⊗ V[:, c, m]``, whose sum stands in for a layer's weight.

    Attributes:
        V: read vectors ``[d_in, C, m]`` (the paper's ``A``, which puts ``C`` first).
        U: write vectors ``[C, m, d_out]`` (the paper's ``B``).
        rank: ``m``.

    Args:
        site: the frozen layer, weight ``[d_out, d_in]``.
        n_components: ``C``.
        rank: ``m``, the largest rank of a component.
    """

    def __init__(self, site: nn.Linear, n_components: int, rank: int) -> None:
        super().__init__(site, n_components)
        self.rank = rank
        self.V = nn.Parameter(site.weight.new_empty(site.in_features, n_components, rank))
        self.U = nn.Parameter(site.weight.new_empty(n_components, rank, site.out_features))

    @torch.no_grad()
    def reset(self, scale: float, generator: Generator) -> None:
        """Draw normal factors, ``scale`` times as wide as Glorot's rule for each (released code).

        Args:
            scale: factor of the standard deviation ``sqrt(2 / (fan_in + fan_out))``.
            generator: where the randomness comes from (a CPU generator gives the same start everywhere).
        """
        for factor, fans in ((self.V, self.V.shape[0] + self.rank), (self.U, self.rank + self.U.shape[-1])):
            drawn = torch.randn(factor.shape, generator=generator, device=generator.device).to(factor)
            factor.copy_(scale * (2 / fans) ** 0.5 * drawn)

    def inner(self, site_input: Tensor) -> Tensor:
        """What each component reads, ``a V``.

        Args:
            site_input: ``a``, ``[..., d_in]``.

        Returns:
            ``[..., C, m]``.
        """
        return (site_input @ self.V.flatten(1)).reshape(*site_input.shape[:-1], *self.V.shape[1:])

    def write(self, inner: Tensor, mask: Tensor) -> Tensor:
        """What masked components put out together.

        Args:
            inner: ``[..., C, m]``.
            mask: ``[..., C]``, broadcastable over the leading dimensions.

        Returns:
            ``[..., d_out]``.
        """
        return (inner * mask[..., None]).flatten(-2) @ self.U.flatten(0, 1)

    def weight(self) -> Tensor:
        """Sum of the components, ``[d_out, d_in]``, in full precision, so that the delta is no rounding."""
        with full_precision(self.V):
            return (self.V.flatten(1) @ self.U.flatten(0, 1)).T

    def extra_repr(self) -> str:
        """Shapes, for ``print(model)``."""
        d_in, n_components, rank = self.V.shape
        return f"C={n_components}, m={rank}, d_in={d_in}, d_out={self.U.shape[-1]}"


class TransposedFullComponents(FullComponents):
    """Components of a site whose weight is the transpose of another site's: the same numbers, transposed.

    One parameter receives the sum of both sites' gradients and one update a step, as in the released code.

    Args:
        site: the frozen layer.
        source: components of the other site.
    """

    def __init__(self, site: nn.Linear, source: FullComponents) -> None:
        SiteComponents.__init__(self, site, source.n_components)
        self._source = (source,)
        self.rank = source.rank

    @property
    def source(self) -> FullComponents:
        """The components that own the parameters."""
        return self._source[0]

    @property
    def V(self) -> Tensor:  # type: ignore[override]  # noqa: N802
        """Read vectors ``[d_in, C, m]``: the source's write vectors."""
        return self.source.U.permute(2, 0, 1)

    @property
    def U(self) -> Tensor:  # type: ignore[override]  # noqa: N802
        """Write vectors ``[C, m, d_out]``: the source's read vectors."""
        return self.source.V.permute(1, 2, 0)

    def reset(self, scale: float, generator: Generator) -> None:
        """Nothing to draw: the numbers belong to the source."""
