"""Rank-one components of one site."""

from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn

from spd_lightning.functional import examples_start, full_precision
from spd_lightning.model.site_components import SiteComponents

Init = Literal["overlap", "random", "examples"]


class Components(SiteComponents):
    """``C`` rank-one matrices ``U[c] ⊗ V[:, c]`` whose sum stands in for a linear layer's weight.

    Attributes:
        V: read vectors ``[d_in, C]``.
        U: write vectors ``[C, d_out]``.

    Args:
        site: the frozen layer, weight ``[d_out, d_in]``.
        n_components: ``C``.
    """

    def __init__(self, site: nn.Linear, n_components: int) -> None:
        super().__init__(site, n_components)
        # new_empty: the dtype and device of the layer
        self.V = nn.Parameter(site.weight.new_empty(site.in_features, n_components))
        self.U = nn.Parameter(site.weight.new_empty(n_components, site.out_features))

    @torch.no_grad()
    def reset(self, init: Init, generator: Generator) -> None:
        """Draw new components.

        Args:
            init: ``"overlap"`` (SPD paper's code): random unit vectors, the write vector scaled by its
                signed overlap ``u W v``. ``"random"`` (later library): ``V ~ N(0, 1/d_in)``,
                ``U ~ N(0, 1/C)``, unrelated to ``W``; meant to be followed by a faithfulness warm-up.
                ``"examples"`` (ours): as ``"random"``, until :meth:`start_from` sees examples.
            generator: where the randomness comes from (a CPU generator gives the same start everywhere).
        """
        V = torch.randn(self.V.shape, generator=generator, device=generator.device).to(self.V)
        U = torch.randn(self.U.shape, generator=generator, device=generator.device).to(self.U)
        if init == "overlap":
            V, U = nn.functional.normalize(V, dim=0), nn.functional.normalize(U, dim=1)
            U = U * torch.einsum("co,oi,ic->c", U, self.site.weight, V)[:, None]
        elif init in ("random", "examples"):
            V, U = V / self.V.shape[0] ** 0.5, U / self.n_components**0.5
        else:
            raise ValueError(f"init must be 'overlap', 'random' or 'examples', got {init!r}")
        self.V.copy_(V)
        self.U.copy_(U)

    @torch.no_grad()
    def start_from(self, site_input: Tensor, generator: Generator) -> None:
        """Start anew from examples: see :func:`spd_lightning.functional.examples_start`.

        Args:
            site_input: what reaches the site, ``[..., d_in]``.
            generator: where the randomness comes from, on the CPU.

        Raises:
            ValueError: if every example is zero.
        """
        V, U = examples_start(self.site.weight, site_input.to(self.site.weight), self.n_components, generator)
        self.V.copy_(V)
        self.U.copy_(U)

    def inner(self, site_input: Tensor) -> Tensor:
        """Inner activations ``h = a V``.

        Args:
            site_input: ``a``, ``[..., d_in]``.

        Returns:
            ``[..., C]``.
        """
        return site_input @ self.V

    def weight(self) -> Tensor:
        """Sum of the components, ``(V U)ᵀ``, ``[d_out, d_in]``, in full precision, so that the delta is no rounding."""
        with full_precision(self.V):
            return (self.V @ self.U).T

    def write(self, inner: Tensor, mask: Tensor) -> Tensor:
        """What masked components put out together, ``(h m) U``.

        Args:
            inner: ``[..., C]``.
            mask: ``[..., C]``, broadcastable over the leading dimensions.

        Returns:
            ``[..., d_out]``.
        """
        return (inner * mask) @ self.U

    def extra_repr(self) -> str:
        """Shapes, for ``print(model)``."""
        d_in, n_components = self.V.shape
        return f"C={n_components}, d_in={d_in}, d_out={self.U.shape[1]}"


class TransposedComponents(Components):
    """Components of a site whose weight is the transpose of another site's.

    Both sites share the same numbers: ``V`` here is the other's ``Uᵀ`` and ``U`` its ``Vᵀ``. One parameter
    receives the sum of both sites' gradients and one update a step (ours).

    Args:
        site: the frozen layer.
        source: components of the other site.
    """

    def __init__(self, site: nn.Linear, source: Components) -> None:
        SiteComponents.__init__(self, site, source.n_components)
        self._source = (source,)

    @property
    def source(self) -> Components:
        """The components that own the parameters."""
        return self._source[0]

    @property
    def V(self) -> Tensor:  # type: ignore[override]  # noqa: N802
        """Read vectors ``[d_in, C]``: the source's write vectors."""
        return self.source.U.T

    @property
    def U(self) -> Tensor:  # type: ignore[override]  # noqa: N802
        """Write vectors ``[C, d_out]``: the source's read vectors."""
        return self.source.V.T

    def reset(self, init: Init, generator: Generator) -> None:
        """Nothing to draw: the numbers belong to the source."""

    def start_from(self, site_input: Tensor, generator: Generator) -> None:
        """Nothing to compute: the numbers belong to the source."""


class StorageTiedComponents(Components):
    """Like :class:`TransposedComponents`, but with parameters of its own that share the source's storage.

    An optimiser keeps separate moments for both and so updates the shared numbers twice a step, as in the
    code shipped with the SPD paper. On devices where the optimiser updates tensors at the same time the two
    updates race.

    Args:
        site: the frozen layer.
        source: components of the other site.
    """

    def __init__(self, site: nn.Linear, source: Components) -> None:
        super().__init__(site, source.n_components)
        self._source = (source,)
        self.share()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.share()  # copying and unpickling give every parameter a storage of its own

    def share(self) -> None:
        """Point the parameters at the source's storage (again, after anything was moved or cast)."""
        source = self._source[0]
        self.V.data, self.U.data = source.U.data.T, source.V.data.T

    def reset(self, init: Init, generator: Generator) -> None:
        """Nothing to draw: the numbers are the source's."""
        self.share()

    def start_from(self, site_input: Tensor, generator: Generator) -> None:
        """Nothing to compute: the numbers are the source's."""
