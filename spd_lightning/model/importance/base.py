"""The bases of importance functions: of all sites together, and of one site."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Generator, Tensor, nn

from spd_lightning.errors import UsageError, check_list, check_whole
from spd_lightning.functional.precision import ambient_precision

RELU_GAIN = 2**0.5


class SiteShape(NamedTuple):
    """What an importance function is told of a site.

    Attributes:
        n_components: ``C``.
        d_features: width of what it may read of the site's input.
    """

    n_components: int
    d_features: int


class Features(Mapping[str, Tensor]):
    """What importance functions may read of the sites' clean inputs, ``[..., d_features]``, by site call.

    Computed where it is asked for: some functions read inner activations alone.

    Args:
        make: by site call, what computes it.
        counted: which positions count, boolean ``[...]``; ``None`` for all. Padding does not.

    Attributes:
        leading: dimensions of the positions of the calls that have been asked for.
    """

    def __init__(self, make: Mapping[str, Callable[[], Tensor]], counted: Tensor | None = None) -> None:
        self._make, self.counted = make, counted
        self.leading: dict[str, torch.Size] = {}

    def __getitem__(self, call: str) -> Tensor:
        found = self._make[call]()
        self.leading[call] = found.shape[:-1]
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._make)

    def __len__(self) -> int:
        return len(self._make)


class InnerActivations(Mapping[str, Tensor]):
    """Inner activations by site call, computed where they are asked for, and once: some functions read none.

    Their products are rounded as is in force where this is made, whatever is in force where they are asked for.

    Args:
        make: by site call, what computes them.
        like: a tensor on their device.
    """

    def __init__(self, make: Mapping[str, Callable[[], Tensor]], like: Tensor) -> None:
        self._make, self._precision = make, ambient_precision(like)
        self._made: dict[tuple[str, bool], Tensor] = {}

    def __getitem__(self, call: str) -> Tensor:
        key = call, torch.is_grad_enabled()  # what was computed without gradient has none to give
        if key not in self._made:
            with self._precision():
                self._made[key] = self._make[call]()
        return self._made[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._make)

    def __len__(self) -> int:
        return len(self._make)


class ImportanceFunction(nn.Module, ABC):
    """Predicts the logits of all site calls from all inner activations and site inputs.

    A subclass takes the sites first, hyper-parameters after, keeps the latter as attributes of the same name, and
    implements :meth:`forward` and :meth:`reset`.

    Args:
        sites: shapes of the sites by name, in order.
    """

    given_by_caller: ClassVar[frozenset[str]] = frozenset({"sites"})
    """Arguments that are not hyper-parameters."""

    def __init__(self, sites: Mapping[str, SiteShape]) -> None:
        super().__init__()
        self.sites = dict(sites)

    @abstractmethod
    def forward(self, inner: Mapping[str, Tensor], features: Features) -> dict[str, Tensor]:
        """Predict logits.

        Args:
            inner: inner activations ``h = a V`` by site call, ``[..., C]``, with gradient to ``V``. A call has its
                site's name, or ``site@0``, ``site@1``, ... where the site is called several times. Computed where
                they are asked for.
            features: what may be read of the sites' clean inputs, ``[..., d_features]``, without gradient.

        Returns:
            Logits ``[..., C]`` by site call.
        """

    @abstractmethod
    def reset(self, generator: Callable[[str], Generator]) -> None:
        """Draw new parameters.

        Args:
            generator: gives a generator for a name, such as a site's.
        """


class SiteFunction(nn.Module, ABC):
    """Predicts the logits of one site from its own activations; :class:`PerSite` makes one per site.

    A subclass takes the number of components and the width of the features first, hyper-parameters after, keeps the
    latter as attributes of the same name, and implements :meth:`forward` and :meth:`reset`.

    Args:
        n_components: ``C``.
        d_in: width of the features.
    """

    given_by_caller: ClassVar[frozenset[str]] = frozenset({"n_components", "d_in"})
    """Arguments that are not hyper-parameters."""
    reads_features: ClassVar[bool] = True
    """Whether :meth:`forward` reads the features; it is given ``None`` in their place otherwise."""
    reads_inner: ClassVar[bool] = True
    """The same of the inner activations."""

    def __init__(self, n_components: int, d_in: int) -> None:
        super().__init__()
        self.n_components = n_components
        self.d_in = d_in

    @abstractmethod
    def forward(self, inner: Tensor | None, features: Tensor | None) -> Tensor:
        """Predict logits.

        Args:
            inner: inner activations ``h = a V``, ``[..., C]``, with gradient to ``V``.
            features: what may be read of the site's clean input, ``[..., d_in]``, without gradient.

        Returns:
            Logits ``[..., C]``.
        """

    @abstractmethod
    def reset(self, generator: Generator) -> None:
        """Draw new parameters from a generator."""


def checked_widths(hidden: Sequence[int]) -> list[int]:
    """Widths of hidden layers, or a :class:`UsageError`."""
    check_list("hidden", hidden)
    for width in hidden:
        check_whole("hidden: every width", width)
    if any(width < 1 for width in hidden):
        raise UsageError(f"hidden: every width must be at least 1, got {list(hidden)}")
    return list(hidden)


def draw(parameter: Tensor, std: float, generator: Generator) -> None:
    """Fill a parameter with normal numbers."""
    noise = torch.randn(parameter.shape, generator=generator, device=generator.device)
    parameter.copy_(noise.to(parameter) * std)
