"""``nn.Conv1d`` and ``nn.Conv2d``."""

from typing import cast

import torch
from torch import Tensor, nn

from spd_lightning.model.sites.site import Site, as_matrix_type

PLAIN = (nn.Conv1d, nn.Conv2d)


class ConvolutionSite(Site):
    """A convolution: a matrix ``[channels out, channels in x kernel]`` at every position.

    Inner activations and masks are ``[..., positions, C]``: a component reads a patch of the input and writes to the
    output channels of one position.
    """

    @classmethod
    def suits(cls, module: nn.Module) -> bool:
        """An ``nn.Conv1d`` or ``nn.Conv2d`` that computes what these do."""
        return any(isinstance(module, kind) and type(module).forward is kind.forward for kind in PLAIN)

    @classmethod
    def objection(cls, module: nn.Module) -> str | None:
        """Groups are several matrices."""
        groups = cast(nn.Conv2d, module).groups
        return f"a convolution of {groups} groups, which is {groups} matrices" if groups != 1 else None

    @property
    def layer(self) -> nn.Conv1d | nn.Conv2d:
        """The module as what it is."""
        return cast(nn.Conv1d | nn.Conv2d, self.module)

    def matrix(self) -> Tensor:
        """The kernels, a row per output channel."""
        return self.layer.weight.flatten(1)

    def read(self, site_input: Tensor, matrix: Tensor) -> Tensor:
        """The input convolved with the columns of ``M``, channels last, ``[..., positions, k]``."""
        kernel = matrix.T.reshape(-1, *self.layer.weight.shape[1:])
        return self.taken(self.layer._conv_forward(as_matrix_type(site_input, matrix), kernel, None))

    def place(self, output: Tensor) -> Tensor:
        """Channels before the positions."""
        return output.movedim(-1, -1 - self._axes)

    def taken(self, output: Tensor) -> Tensor:
        """Channels last."""
        return output.movedim(-1 - self._axes, -1)

    def gate_features(self, site_input: Tensor) -> Tensor:
        """The patches, ``[..., positions, d_in]``."""
        unit = torch.eye(self.d_in, dtype=site_input.dtype, device=site_input.device)
        return self.read(site_input, unit)

    @property
    def _axes(self) -> int:
        return len(self.layer.kernel_size)
