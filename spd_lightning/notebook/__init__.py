"""Decompositions without a command line: a network and data in, a decomposition and a verdict out."""

from spd_lightning.notebook.decompose import decompose

__all__ = ["decompose"]
