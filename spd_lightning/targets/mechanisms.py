"""What is known about the mechanisms of a toy target."""

from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from torch import Tensor


@dataclass(frozen=True)
class Mechanisms:
    """The components that a correct decomposition of one site must have.

    Attributes:
        kind: ``"identity"``, one component per feature and one feature per component; ``"dense"``, a block of
            ``count`` components that act together.
        count: number of components.
        features: indices of the features (rows of the one-hot probes) that the target really represents.
        axis: where the features live in the site's weight: ``"input"`` columns or ``"output"`` rows; ``None``
            where single columns are not mechanisms and MMCS / ML2R do not apply.
    """

    kind: Literal["identity", "dense"]
    count: int
    features: list[int] = field(default_factory=list)
    axis: Literal["input", "output"] | None = None


@runtime_checkable
class KnownMechanisms(Protocol):
    """A target whose mechanisms are known, so that recovery can be scored."""

    n_features: int

    def known_mechanisms(self) -> dict[str, Mechanisms]:
        """Mechanisms per site name, for the target's present weights."""
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
