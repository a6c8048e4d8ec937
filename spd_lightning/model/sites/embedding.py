"""``nn.Embedding``."""

from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from spd_lightning.model.sites.site import Site


class EmbeddingSite(Site):
    """A table of vectors: a matrix ``[width, vocabulary]`` that is only ever multiplied by one-hot vectors.

    Multiplication is a look-up, so nothing of the vocabulary's size is made per position. A component's inner
    activation is its read vector's entry at the token.
    """

    apart = True

    @classmethod
    def suits(cls, module: nn.Module) -> bool:
        """An ``nn.Embedding`` that computes what ``nn.Embedding`` does."""
        return isinstance(module, nn.Embedding) and type(module).forward is nn.Embedding.forward

    @classmethod
    def objection(cls, module: nn.Module) -> str | None:
        """``max_norm`` changes the weight in every forward."""
        return "an embedding with max_norm, which rewrites its own weight" if module.max_norm is not None else None

    def matrix(self) -> Tensor:
        """The table, transposed."""
        return cast(Tensor, self.module.weight).T

    def stored(self, matrix: Tensor) -> Tensor:
        """The table that is the matrix, transposed."""
        return matrix.T

    def read(self, site_input: Tensor, matrix: Tensor) -> Tensor:
        """Rows of ``M`` at the tokens, ``[..., k]``."""
        return F.embedding(site_input, matrix)

    def gate_features(self, site_input: Tensor) -> Tensor:
        """The vectors that the table holds for the tokens, ``[..., d_out]``."""
        return self.own(site_input)

    @property
    def d_features(self) -> int:
        """Width of a vector of the table."""
        return self.d_out

    def examples(self, site_input: Tensor) -> Tensor:
        """One-hot vectors of the different tokens, ``[tokens, vocabulary]``."""
        return F.one_hot(torch.unique(site_input), self.d_in).to(self.kind_of_components)
