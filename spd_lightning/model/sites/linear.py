"""``nn.Linear``."""

from typing import cast

from torch import Tensor, nn

from spd_lightning.model.sites.site import Site, as_matrix_type


class LinearSite(Site):
    """A linear layer, weight ``[d_out, d_in]``."""

    apart = True

    @classmethod
    def suits(cls, module: nn.Module) -> bool:
        """An ``nn.Linear`` that computes what ``nn.Linear`` does."""
        return isinstance(module, nn.Linear) and type(module).forward is nn.Linear.forward

    def matrix(self) -> Tensor:
        """The layer's weight."""
        return cast(Tensor, self.module.weight)

    def read(self, site_input: Tensor, matrix: Tensor) -> Tensor:
        """``a M``, ``[..., k]``."""
        return as_matrix_type(site_input, matrix) @ matrix
