"""Linear layers that keep their weight transposed, such as ``Conv1D`` of Hugging Face's GPT-2."""

from typing import cast

from torch import Tensor, nn

from spd_lightning.model.sites.site import Site, as_matrix_type


class TransposedSite(Site):
    """A linear layer whose weight is ``[d_in, d_out]``.

    Known by its class's name ``Conv1D`` and its number of outputs ``nf``, so that ``transformers`` need not be there.
    """

    apart = True

    @classmethod
    def suits(cls, module: nn.Module) -> bool:
        """A ``Conv1D`` of ``transformers``, or a class built like it."""
        weight = getattr(module, "weight", None)
        named = any(base.__name__ == "Conv1D" for base in type(module).__mro__)
        return (
            named and isinstance(weight, Tensor) and weight.dim() == 2 and weight.shape[1] == getattr(module, "nf", 0)
        )

    def matrix(self) -> Tensor:
        """The layer's weight, transposed."""
        return cast(Tensor, self.module.weight).T

    def stored(self, matrix: Tensor) -> Tensor:
        """The matrix, transposed."""
        return matrix.T

    def read(self, site_input: Tensor, matrix: Tensor) -> Tensor:
        """``a M``, ``[..., k]``."""
        return as_matrix_type(site_input, matrix) @ matrix
