"""What is known about the mechanisms of a target."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Terms:
    """Matrices of rank one that a site's weight is known to be made of.

    Attributes:
        read: directions that the terms read, ``[n, d_in]``.
        write: what they write, ``[n, d_out]``; term ``i`` is ``write[i] ⊗ read[i]``.
        needed: where each of them is needed, boolean ``[rows, ..., n]``, on the target's probes and at their
            positions; elsewhere it can be ablated without any effect.
        groups: of each term, the number of the mechanism that it is part of; the numbers count across sites.
    """

    read: Tensor
    write: Tensor
    needed: Tensor
    groups: Sequence[int]


@dataclass(frozen=True)
class Mechanisms:
    """The components that a correct decomposition of one site must have.

    Attributes:
        kind: ``"identity"``, one component per feature and one feature per component; ``"dense"``, a block of
            ``count`` components that act together; ``"terms"``, the matrices of rank one that ``terms`` lists.
        count: number of components.
        features: indices of the features (rows of the one-hot probes) that the target really represents.
        axis: where the features live in the site's weight: ``"input"`` columns or ``"output"`` rows; ``None``
            where single columns are not mechanisms and MMCS / ML2R do not apply.
        terms: what each component must be, and where it must be important.
    """

    kind: Literal["identity", "dense", "terms"]
    count: int
    features: list[int] = field(default_factory=list)
    axis: Literal["input", "output"] | None = None
    terms: Terms | None = None


@runtime_checkable
class KnownMechanisms(Protocol):
    """A target whose mechanisms are known, so that recovery can be scored."""

    def known_mechanisms(self) -> dict[str, Mechanisms]:
        """Mechanisms per site name, for the target's present weights."""
        ...


@runtime_checkable
class OwnProbes(Protocol):
    """A target that says on which inputs its mechanisms are looked at, in place of one-hot features."""

    def probes(self) -> Tensor:
        """A batch of inputs, the same whenever it is asked for."""
        ...


@dataclass(frozen=True)
class FourierSite:
    """A site one side of which stands for numbers modulo a modulus.

    Attributes:
        side: which vectors of its components are functions of the numbers, those that they ``"read"`` or ``"write"``.
        numbers: ``[copies * modulus, d]``, takes such a vector to its values on the numbers; ``copies`` is 2 where a
            site reads two numbers side by side.
    """

    side: Literal["read", "write"]
    numbers: Tensor


@runtime_checkable
class FourierMechanisms(Protocol):
    """A target that computes with numbers modulo a modulus, whose mechanisms are the Fourier frequencies."""

    modulus: int

    def fourier_sites(self) -> dict[str, FourierSite]:
        """Sites by name, for the target's present weights."""
        ...

    def answer_matrices(self) -> Tensor | None:
        """What each output is a quadratic form of the one-hot numbers with, or ``None`` where it is none.

        ``[modulus, copies * modulus, copies * modulus]``, symmetric.
        """
        ...
