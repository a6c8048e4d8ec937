"""Sites whose weights are one matrix, and components that stand for both."""

from collections.abc import Callable, Mapping

import torch
from torch import Generator, Tensor, nn

from spd_lightning.errors import UsageError
from spd_lightning.model.components import Components, Init
from spd_lightning.model.site_dict import SiteDict
from spd_lightning.model.sites import Site


class TiedComponents(Components):
    """Components of a site whose weight is another site's, transposed or not: the same numbers.

    One parameter receives the sum of both sites' gradients and one update a step (ours; also the released code of the
    APD paper).

    Args:
        site: what they explain.
        source: components of the other site.
    """

    def __init__(self, site: Site, source: Components) -> None:
        super().__init__(site, source.n_components, source.rank)
        self._source = (source,)
        self.transposed = _is_transposed(site, source.site)

    def _own_factors(self) -> None:
        """None: they are the source's."""

    @property
    def source(self) -> Components:
        """The components that own the parameters."""
        return self._source[0]

    @property
    def owns_factors(self) -> bool:
        """False."""
        return False

    @property
    def V(self) -> Tensor:  # type: ignore[override]  # noqa: N802
        """Read vectors: the source's write vectors, if transposed."""
        return self.source.U.movedim(-1, 0) if self.transposed else self.source.V

    @property
    def U(self) -> Tensor:  # type: ignore[override]  # noqa: N802
        """Write vectors: the source's read vectors, if transposed."""
        return self.source.V.movedim(0, -1) if self.transposed else self.source.U

    def reset(self, init: Init, generator: Generator) -> None:
        """Nothing to draw: the numbers belong to the source."""

    def reset_glorot(self, scale: float, generator: Generator) -> None:
        """Nothing to draw: the numbers belong to the source."""

    def start_from(self, site_input: Tensor, generator: Generator) -> None:
        """Nothing to compute: the numbers belong to the source."""


class TwinComponents(Components):
    """Like :class:`TiedComponents`, but with parameters of its own, kept equal to the source's.

    An optimiser keeps separate moments for both. After each of its steps :meth:`join` applies both updates to both, as
    the code shipped with the SPD paper does, whose two parameters are views of the same numbers.

    Args:
        site: what they explain.
        source: components of the other site.
    """

    def __init__(self, site: Site, source: Components) -> None:
        super().__init__(site, source.n_components)
        self._source = (source,)
        self.transposed = _is_transposed(site, source.site)

    @property
    def source(self) -> Components:
        """The components that these are equal to."""
        return self._source[0]

    @torch.no_grad()
    def mirror(self) -> None:
        """Take over the source's numbers."""
        V, U = self._mirrored(self.source.V, self.source.U)
        self.V.copy_(V)
        self.U.copy_(U)

    @torch.no_grad()
    def join(self, before: tuple[Tensor, Tensor]) -> None:
        """Apply both updates to both.

        Args:
            before: ``V`` and ``U`` of this module before the optimiser's step, the same numbers as the source's.
        """
        V, U = self._mirrored(self.V - before[0], self.U - before[1])
        self.source.V.add_(V)
        self.source.U.add_(U)
        self.mirror()

    def _mirrored(self, V: Tensor, U: Tensor) -> tuple[Tensor, Tensor]:
        """Factors of one site as they are at the other."""
        return (U.movedim(-1, 0), V.movedim(0, -1)) if self.transposed else (V, U)

    def reset(self, init: Init, generator: Generator) -> None:
        """The source's numbers."""
        self.mirror()

    def start_from(self, site_input: Tensor, generator: Generator) -> None:
        """The source's numbers."""
        self.mirror()


def _is_transposed(site: Site, source: Site) -> bool:
    """Whether one site's weight is the other's transpose; of square ones the numbers decide."""
    one, other = site.weight(), source.weight()
    if one.shape != other.shape:
        return True
    return bool(torch.equal(one, other.T)) or not torch.equal(one, other)


def tied_components(
    found: Mapping[str, tuple[Site, int]],
    ties: Mapping[str, str],
    own: Callable[[Site, int], Components],
    tied: Callable[[Site, Components], Components],
) -> SiteDict[Components]:
    """Components of every site; those of a tied site belong to another one.

    Args:
        found: sites and ``C`` by name.
        ties: sites whose weight is another site's, transposed or not; sites of one parameter are tied anyway.
        own: makes components of a site.
        tied: makes components of a site from those of the other one.

    Returns:
        Components by site, in the order of ``found``.

    Raises:
        UsageError: if a tie does not fit.
    """
    every = {**shared_parameters(found), **ties}
    parts = {name: own(site, count) for name, (site, count) in found.items() if name not in every}
    for name, source in every.items():
        if name not in found or source not in parts:
            raise UsageError(f"ties: {name!r} and {source!r} must be two different sites, got {list(found)}")
        (site, count), owner = found[name], parts[source]
        shapes = {(site.d_out, site.d_in), (site.d_in, site.d_out)}
        if (owner.site.d_out, owner.site.d_in) not in shapes or count != owner.n_components:
            raise UsageError(f"ties: {name!r} must be the transpose of {source!r} and have the same C")
        parts[name] = tied(site, owner)
    return SiteDict({name: parts[name] for name in found})


def parameter_of(site: Site) -> object:
    """What a site's weight is kept in: the same object for sites that share it."""
    return getattr(site.module, "weight", site.module)


def same_memory(one: Site, other: Site) -> bool:
    """Whether two sites are one matrix in memory, as it is or transposed: what is written into one is in both."""
    if one.module is other.module:
        return one.rows == other.rows
    if one.rows is not None or other.rows is not None:
        return False
    first, second = one.parameter(), other.parameter()
    return first.data_ptr() == second.data_ptr() and first.numel() == second.numel()


def shared_parameters(found: Mapping[str, tuple[Site, int]]) -> dict[str, str]:
    """Sites whose weight is the very parameter of a site before them, as language models tie their embeddings."""
    first: dict[int, str] = {}
    ties = {}
    for name, (site, _) in found.items():
        parameter = parameter_of(site)
        if site.rows is None and isinstance(parameter, nn.Parameter):
            owner = first.setdefault(id(parameter), name)
            if owner != name:
                ties[name] = owner
    return ties
