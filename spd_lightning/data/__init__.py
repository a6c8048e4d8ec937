"""LightningDataModules."""

from spd_lightning.data.dataset_batches import DatasetBatches
from spd_lightning.data.digits import Digits
from spd_lightning.data.keyed import KeyedBatches
from spd_lightning.data.modular_pairs import ModularPairs
from spd_lightning.data.sequences import InductionSequences, NameSequences
from spd_lightning.data.sparse_features import SparseFeatures
from spd_lightning.data.streamed_text import StreamedText
from spd_lightning.data.text import TextTokens

__all__ = [
    "DatasetBatches",
    "Digits",
    "InductionSequences",
    "KeyedBatches",
    "ModularPairs",
    "NameSequences",
    "SparseFeatures",
    "StreamedText",
    "TextTokens",
]
