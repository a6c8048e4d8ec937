"""Tensors in, matplotlib figures out. Nothing here touches pyplot, a logger or a file.

Tensors may require a gradient and live on any device. A value that is not finite never stops a figure from being
drawn: it is left blank or written out.
"""

from spd_lightning.figures.ablation import ablation_bars, ablation_matrix
from spd_lightning.figures.heatmaps import importance_heatmap
from spd_lightning.figures.histograms import importance_histograms
from spd_lightning.figures.spectrum import importance_spectrum
from spd_lightning.figures.vectors import component_vectors

__all__ = [
    "ablation_bars",
    "ablation_matrix",
    "component_vectors",
    "importance_heatmap",
    "importance_histograms",
    "importance_spectrum",
]
