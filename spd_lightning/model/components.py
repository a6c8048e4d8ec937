"""Components of one site: matrices in factors, whose sum stands in for the site's weight."""

from typing import Literal, cast, get_args

import torch
from torch import Generator, Tensor, nn

from spd_lightning.functional import basis_start, examples_start, full_precision
from spd_lightning.functional.initialisation import Basis
from spd_lightning.functional.precision import single
from spd_lightning.model.masks import Mask
from spd_lightning.model.sites import Site

Init = Literal["overlap", "random", "examples", "adaptive", "neurons", "singular", "directions"]
FROM_EXAMPLES: tuple[Init, ...] = ("examples", "adaptive")
"""Starts that need to see what reaches the sites."""


class MaskMisfitError(ValueError):
    """A mask whose leading dimensions are not those of the site.

    Args:
        positions: what the site reads.
        mask: shape of the mask.
    """

    def __init__(self, positions: torch.Size, mask: torch.Size) -> None:
        super().__init__(
            f"its components read {list(positions)}, got a mask of shape {list(mask)}; masks are [C] or [..., C]"
        )


class Components(nn.Module):
    """``C`` matrices whose sum stands in for a site's weight: ``U[c] ⊗ V[:, c]``, or sums of ``m`` such products.

    Their numbers are in single precision where the target's are in less, see :class:`Site`.

    Attributes:
        V: read vectors ``[d_in, C]``, or ``[d_in, C, m]`` for components of rank up to ``m``.
        U: write vectors ``[C, d_out]``, or ``[C, m, d_out]``.
        n_components: ``C``.

    Args:
        site: what they explain. It is referred to, not owned, and stays out of this module's state.
        n_components: ``C``.
        rank: ``m``, the largest rank of a component (APD paper); ``None`` for rank one without a dimension for it.
    """

    V: Tensor
    U: Tensor
    transposed = False
    """Whether they are another site's, whose weight is this one's transpose."""

    def __init__(self, site: Site, n_components: int, rank: int | None = None) -> None:
        super().__init__()
        self._site = (site,)  # a tuple hides the target's module from nn.Module's registration
        self.n_components, self.rank = n_components, rank
        self._own_factors()

    def _own_factors(self) -> None:
        terms = [] if self.rank is None else [self.rank]
        like = self.site.matrix().new_empty(0, dtype=self.site.kind_of_components)
        self.V = nn.Parameter(like.new_empty(self.site.d_in, self.n_components, *terms))
        self.U = nn.Parameter(like.new_empty(self.n_components, *terms, self.site.d_out))

    @property
    def site(self) -> Site:
        """The matrix that these components explain."""
        return self._site[0]

    @property
    def source(self) -> "Components":
        """The components whose numbers these are: themselves, unless their site is tied to another."""
        return self

    @property
    def owns_factors(self) -> bool:
        """Whether ``V`` and ``U`` are this module's own, and not another site's."""
        return True

    def inner(self, site_input: Tensor) -> Tensor:
        """What each component reads, ``a V``, in the type of the parameters, under mixed precision too.

        Args:
            site_input: ``a``, as the site's module takes it.

        Returns:
            ``[..., C]`` or ``[..., C, m]``.
        """
        return self.read(site_input).to(self.V.dtype)

    def read(self, site_input: Tensor) -> Tensor:
        """:meth:`inner` as mixed precision leaves it."""
        inner = self.site.read(site_input, self.V.flatten(1))
        return inner if self.V.dim() == 2 else inner.reshape(*inner.shape[:-1], *self.V.shape[1:])

    def masked(self, inner: Tensor, mask: Tensor) -> Tensor:
        """What components read, times their masks.

        Args:
            inner: ``[..., C]`` or ``[..., C, m]``.
            mask: ``[..., C]``, broadcastable over the leading dimensions.

        Returns:
            As ``inner``.

        Raises:
            MaskMisfitError: if it is not.
        """
        mask = mask if self.rank is None else mask[..., None]
        try:
            masked = inner * mask
        except RuntimeError:
            raise MaskMisfitError(inner.shape, mask.shape) from None
        if masked.shape != inner.shape:
            raise MaskMisfitError(inner.shape, mask.shape)
        return masked

    def write(self, inner: Tensor) -> Tensor:
        """What components put out together.

        Args:
            inner: what they read, already masked, ``[..., C]`` or ``[..., C, m]``.

        Returns:
            ``[..., d_out]``.
        """
        return inner @ self.U if self.U.dim() == 2 else inner.flatten(-2) @ self.U.flatten(0, 1)

    def weight(self) -> Tensor:
        """Sum of the components, ``[d_out, d_in]``, in full precision, so that the delta is not just rounding."""
        with full_precision(self.V):
            return (self.V.flatten(1) @ self.U.flatten(0, -2)).T

    def delta(self) -> Tensor:
        """What the components do not explain, ``W`` minus their sum, ``[d_out, d_in]``, with gradient."""
        return self.site.weight().to(self.V.dtype) - self.weight()

    def forward(self, site_input: Tensor, mask: Mask) -> Tensor:
        """Run the site on masked components.

        Args:
            site_input: what arrives in the masked network.
            mask: of the components and, if it has one, of the delta component.

        Returns:
            ``[..., d_out]``, the frozen bias added once, in the target's type.
        """
        written = self.write(self.masked(self.read(site_input), mask.components))
        if mask.delta is not None:
            written = written + mask.delta[..., None] * self.site.read(site_input, self.delta().T)
        return self.site.output(written)

    @torch.no_grad()
    def reset(self, init: Init, generator: Generator) -> None:
        """Draw new components of rank one.

        Args:
            init: ``"overlap"`` (SPD paper's code): random unit vectors, the write vector scaled by its
                signed overlap ``u W v``. ``"random"`` (later library): ``V ~ N(0, 1/d_in)``,
                ``U ~ N(0, 1/C)``, unrelated to ``W``; meant to be followed by a faithfulness warm-up.
                ``"examples"`` and ``"adaptive"`` (ours): as ``"random"``, until :meth:`start_from` sees examples. Else
                a basis that needs no learning, see :func:`spd_lightning.functional.basis_start`.
            generator: where the randomness comes from (a CPU generator gives the same start everywhere).

        Raises:
            ValueError: if ``init`` is unknown, or its basis does not fit ``C``.
        """
        if init not in get_args(Init):
            raise ValueError(f"init must be one of {get_args(Init)}, got {init!r}")
        if init in get_args(Basis):
            V, U = basis_start(cast(Basis, init), single(self.site.weight()), self.n_components, generator)
            self.V.copy_(V.reshape(self.V.shape))
            self.U.copy_(U.reshape(self.U.shape))
            return
        V = torch.randn(self.V.shape, generator=generator, device=generator.device).to(self.V)
        U = torch.randn(self.U.shape, generator=generator, device=generator.device).to(self.U)
        if init == "overlap":
            V, U = nn.functional.normalize(V, dim=0), nn.functional.normalize(U, dim=1)
            U = U * torch.einsum("co,oi,ic->c", U, self.site.weight().to(U), V)[:, None]
        else:
            V, U = V / self.V.shape[0] ** 0.5, U / self.n_components**0.5
        self.V.copy_(V)
        self.U.copy_(U)

    @torch.no_grad()
    def reset_glorot(self, scale: float, generator: Generator) -> None:
        """Draw normal factors of components of rank ``m``, as the released code of the APD paper does.

        Args:
            scale: factor of the standard deviation ``sqrt(2 / (fan_in + fan_out))`` of Glorot's rule for each.
            generator: where the randomness comes from (a CPU generator gives the same start everywhere).
        """
        terms = self.rank or 1
        for factor, fans in ((self.V, self.V.shape[0] + terms), (self.U, terms + self.U.shape[-1])):
            drawn = torch.randn(factor.shape, generator=generator, device=generator.device).to(factor)
            factor.copy_(scale * (2 / fans) ** 0.5 * drawn)

    @torch.no_grad()
    def start_from(self, site_input: Tensor, generator: Generator) -> None:
        """Start anew from examples: see :func:`spd_lightning.functional.examples_start`.

        Args:
            site_input: what reaches the site.
            generator: where the randomness comes from, on the CPU.

        Raises:
            ValueError: if every example is zero.
        """
        weight = single(self.site.weight())
        V, U = examples_start(weight, self.site.examples(site_input).to(weight), self.n_components, generator)
        self.V.copy_(V)
        self.U.copy_(U)

    def extra_repr(self) -> str:
        """Shapes, for ``print(model)``."""
        terms = "" if self.rank is None else f", m={self.rank}"
        return f"C={self.n_components}{terms}, d_in={self.V.shape[0]}, d_out={self.U.shape[-1]}"
