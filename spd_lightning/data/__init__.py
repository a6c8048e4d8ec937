"""LightningDataModules."""

from spd_lightning.data.sparse_features import KeyedBatches, SparseFeatures

__all__ = ["KeyedBatches", "SparseFeatures"]
