"""The base of kinds of sites."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from spd_lightning.errors import UsageError
from spd_lightning.functional.precision import single_type

ROUNDING = 8
"""How many steps of its type a number may be off after it was written into a weight that is computed from others."""


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
    kept_in: ClassVar[str] = "weight"
    """The parameter of the module that holds the matrix."""

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

    def stored(self, matrix: Tensor) -> Tensor:
        """The opposite of :meth:`matrix`: a whole matrix ``[rows, d_in]`` as the module's parameter holds it."""
        return matrix.reshape(self.parameter().shape)

    @torch.no_grad()
    def put(self, weight: Tensor) -> None:
        """Replace ``W`` for good, in the module's own parameter; whatever else shares it changes with it.

        A weight that is computed from others, as with weight norm, is taken apart by its parametrisation.

        Args:
            weight: ``[d_out, d_in]``, rounded to the type of the module's weight.

        Raises:
            UsageError: if the module then holds another matrix, as a kind without a fitting :meth:`stored` does.
        """
        whole = self.matrix().clone()
        wanted = weight.to(whole)
        runs = [range(len(whole))] if self.rows is None else self.rows
        first = 0
        for rows in runs:
            whole[rows.start : rows.stop] = wanted[first : first + len(rows)]
            first += len(rows)
        self._keep(self.stored(whole))
        if not _nearly(self.weight(), wanted):
            kind = type(self).__name__
            computed = "its parametrisation has none for this matrix, as weight norm for a row of zeros"
            given = f"{kind}.stored() must turn {kind}.matrix() around"
            raise self._unwritable(computed if self._is_computed else given)

    def _keep(self, stored: Tensor) -> None:
        parameter = self.parameter()
        if stored.shape != parameter.shape:
            raise self._unwritable(f"{type(self).__name__}.stored() must give {list(parameter.shape)}")
        if not self._is_computed:
            parameter.copy_(stored)
            return
        try:
            setattr(self.module, self.kept_in, stored)
        except RuntimeError:  # what a parametrisation without right_inverse raises
            raise self._unwritable("its weight is computed by a parametrisation without right_inverse") from None

    @property
    def _is_computed(self) -> bool:
        return is_parametrized(self.module, self.kept_in)

    def _unwritable(self, reason: str) -> UsageError:
        return UsageError(f"kinds: the weight of a {type(self.module).__name__} cannot be written: {reason}")

    def parameter(self) -> Tensor:
        """What holds the module's matrix, in the module's own layout.

        Raises:
            UsageError: if the module has none of the name that its kind gives.
        """
        found = getattr(self.module, self.kept_in, None)
        if not isinstance(found, Tensor):
            raise self._unwritable(f"{type(self).__name__} must name its parameter in kept_in, got {self.kept_in!r}")
        return found

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

    def own_part(self, output: Tensor) -> Tensor:
        """This site's part of the module's output, or of a gradient there, ``[..., d_out]``."""
        return self.own_rows(self.taken(output), -1)

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


def _nearly(found: Tensor, wanted: Tensor) -> bool:
    """Whether a matrix is another one up to rounding, as a share of the largest number."""
    step = ROUNDING * torch.finfo(wanted.dtype).eps
    return torch.allclose(found, wanted, rtol=step, atol=step * float(wanted.abs().max()))
