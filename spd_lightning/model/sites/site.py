"""The base of kinds of sites."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from spd_lightning.errors import UsageError
from spd_lightning.functional.precision import single_type


class Site(ABC):
    """One decomposed weight matrix ``W [d_out, d_in]``: that of a module, or the rows of it that are one part.

    A kind says how the module's input is multiplied by a matrix and where the result goes. It changes nothing in the
    module. A new kind is a subclass that implements :meth:`suits`, :meth:`matrix` and :meth:`read`, and whichever of
    the others differ for it; ``kinds`` of :class:`spd_lightning.DecomposedModel` takes it by ``class_path``.

    Args:
        module: the module of the target.
        rows: which rows of the module's matrix this site is, as ranges; ``None`` for all.

    Attributes:
        d_in: columns of ``W``.
        d_out: rows of ``W``.
    """

    apart: ClassVar[bool] = False
    """Whether :meth:`read` reads every position of ``[..., d]`` (or of numbers ``[...]``) by itself, so that some
    positions can be read without the others."""

    def __init__(self, module: nn.Module, rows: Sequence[range] | None = None) -> None:
        self.module = module
        self.rows = None if rows is None else tuple(rows)
        shape = self.matrix().shape
        if len(shape) != 2:
            raise UsageError(f"kinds: {type(self).__name__}.matrix() must give [rows, d_in], got {list(shape)}")
        whole, self.d_in = shape
        self.d_out = whole if self.rows is None else sum(map(len, self.rows))

    @classmethod
    @abstractmethod
    def suits(cls, module: nn.Module) -> bool:
        """Whether a module is of this kind."""

    @classmethod
    def objection(cls, module: nn.Module) -> str | None:
        """Why a module of this kind cannot be decomposed all the same, in words; ``None`` if it can."""
        return None

    @abstractmethod
    def matrix(self) -> Tensor:
        """The module's whole matrix as it is now, ``[rows, d_in]``."""

    @abstractmethod
    def read(self, site_input: Tensor, matrix: Tensor) -> Tensor:
        """The module's input times a matrix.

        Args:
            site_input: what the module is called with.
            matrix: ``[d_in, k]``.

        Returns:
            ``[..., k]``.
        """

    def vector(self) -> Tensor | None:
        """The module's whole bias as it is now, ``[rows]``, if it has one."""
        return getattr(self.module, "bias", None)

    def place(self, output: Tensor) -> Tensor:
        """What the matrix put out, ``[..., rows]``, in the layout of the module's output."""
        return output

    def taken(self, output: Tensor) -> Tensor:
        """The opposite of :meth:`place`: ``[..., rows]`` from the module's output."""
        return output

    def gate_features(self, site_input: Tensor) -> Tensor:
        """What importance functions may read of the module's input, ``[..., d_features]``, floating point."""
        return site_input

    @property
    def d_features(self) -> int:
        """Width of :meth:`gate_features`."""
        return self.d_in

    def examples(self, site_input: Tensor) -> Tensor:
        """The vectors that the matrix multiplies, ``[..., d_in]``."""
        return self.gate_features(site_input)

    def weight(self) -> Tensor:
        """``W``, ``[d_out, d_in]``, as it is now."""
        return self.own_rows(self.matrix())

    def bias(self) -> Tensor | None:
        """This site's part of the bias, ``[d_out]``."""
        vector = self.vector()
        return None if vector is None else self.own_rows(vector)

    def own_rows(self, whole: Tensor, dim: int = 0) -> Tensor:
        """This site's rows of something that the module has one of per row."""
        if self.rows is None:
            return whole
        parts = [whole.narrow(dim, rows.start, len(rows)) for rows in self.rows]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim)

    def own(self, site_input: Tensor) -> Tensor:
        """What the target's own weight puts out, ``a Wᵀ``, ``[..., d_out]``, without the bias."""
        return self.read(site_input, self.weight().T)

    def output(self, written: Tensor) -> Tensor:
        """The bias added to what a matrix put out, ``[..., d_out]``, in the target's type."""
        bias = self.bias()
        written = written if bias is None else written + bias
        return written if torch.is_autocast_enabled(written.device.type) else written.to(self.kind_of_output)

    @property
    def kind_of_output(self) -> torch.dtype:
        """The type of what the module puts out where nothing else is asked for: that of its weight."""
        return self.matrix().dtype

    @property
    def kind_of_components(self) -> torch.dtype:
        """The type of components: single precision for a target in half precision, else the target's."""
        return single_type(self.matrix().dtype)


def as_matrix_type(site_input: Tensor, matrix: Tensor) -> Tensor:
    """A floating-point input in the type of the matrix that it meets, unless mixed precision sees to that."""
    if site_input.dtype == matrix.dtype or torch.is_autocast_enabled(site_input.device.type):
        return site_input
    return site_input.to(matrix.dtype)
