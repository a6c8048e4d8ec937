"""Kinds of sites: how a module of the target reads its input and writes its output as one matrix."""

from spd_lightning.model.sites.convolution import ConvolutionSite
from spd_lightning.model.sites.embedding import EmbeddingSite
from spd_lightning.model.sites.find import KINDS, find_sites
from spd_lightning.model.sites.linear import LinearSite
from spd_lightning.model.sites.site import Site
from spd_lightning.model.sites.transposed import TransposedSite

__all__ = ["KINDS", "ConvolutionSite", "EmbeddingSite", "LinearSite", "Site", "TransposedSite", "find_sites"]
