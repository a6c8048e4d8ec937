"""Tensors in, matplotlib figures out. Nothing here touches pyplot, a logger or a file.

Tensors may require a gradient and live on any device. A value that is not finite never stops a figure from being
drawn: it is left blank or written out.
"""

from spd_lightning.figures.ablation import ablation_dots, ablation_matrix
from spd_lightning.figures.attention import attention_patterns
from spd_lightning.figures.attribution import Drawn, attribution_diagram
from spd_lightning.figures.circuits import circuit_maps
from spd_lightning.figures.contributions import contribution_agreement, feature_contributions
from spd_lightning.figures.fourier import fourier_spectra
from spd_lightning.figures.heatmaps import importance_heatmap
from spd_lightning.figures.histograms import importance_histograms
from spd_lightning.figures.images import component_images
from spd_lightning.figures.network import network_diagram
from spd_lightning.figures.query_key import query_key_maps
from spd_lightning.figures.scrubbing import ScrubbedErrors, scrubbing_histograms
from spd_lightning.figures.sparsity import sparsity_curve
from spd_lightning.figures.spectrum import importance_spectrum
from spd_lightning.figures.sweeps import Outcome, importance_comparison, recovery_shares, sweep_sensitivity
from spd_lightning.figures.vectors import component_vectors

__all__ = [
    "Drawn",
    "Outcome",
    "ScrubbedErrors",
    "ablation_dots",
    "ablation_matrix",
    "attention_patterns",
    "attribution_diagram",
    "circuit_maps",
    "component_images",
    "component_vectors",
    "contribution_agreement",
    "feature_contributions",
    "fourier_spectra",
    "importance_comparison",
    "importance_heatmap",
    "importance_histograms",
    "importance_spectrum",
    "network_diagram",
    "query_key_maps",
    "recovery_shares",
    "scrubbing_histograms",
    "sparsity_curve",
    "sweep_sensitivity",
]
