"""Run directories to be analysed: one of a toy model, one of a language model."""

import pytest
import torch

from spd_lightning import DecomposedModel, KeywordCall, LanguageModel, ToyModelOfSuperposition
from spd_lightning.data import TextTokens
from tests.analysis.run_directories import written
from tests.data.texts import documents, folder_of
from tests.networks.models import randomised

SPARSE = {
    "class_path": "spd_lightning.SparseFeatures",
    "init_args": {"n_features": 4, "val_batches": 4, "val_batch_size": 40, "feature_probability": 0.4},
}
CALL = {
    "inputs": ["input_ids", "attention_mask"],
    "weights": "attention_mask",
    "output": "logits",
    "labels": "input_ids",
    "ahead": 1,
}


@pytest.fixture
def toy_run(tmp_path):
    """A run directory of a toy model."""
    return written(tmp_path / "toy", randomised(DecomposedModel(ToyModelOfSuperposition(4, 3), {"linear*": 5})), SPARSE)


@pytest.fixture
def language_run(tmp_path):
    """A run directory of a language model."""
    text = {"sources": [folder_of(tmp_path / "texts", documents(12))], "vocabulary": 300, "length": 8}
    text |= {"val_fraction": 0.4, "batch_size": 2, "val_batch_size": 4}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        target = LanguageModel("gpt2", vocabulary=300, length=8, width=8, layers=1, heads=2)
    model = DecomposedModel(target, {"*.c_attn[v]": 3, "*.mlp.c_proj": 4}, call=KeywordCall(**CALL))
    return written(
        tmp_path / "language", randomised(model), {"class_path": "spd_lightning.TextTokens", "init_args": text}
    )


@pytest.fixture(scope="module")
def language(tmp_path_factory):
    """A run directory of a language model, and the data it names."""
    folder = tmp_path_factory.mktemp("language")
    text = {
        "sources": [folder_of(folder / "texts", documents(12))],
        "vocabulary": 300,
        "length": 8,
        "val_fraction": 0.4,
        "batch_size": 2,
        "val_batch_size": 4,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        target = LanguageModel("gpt2", vocabulary=300, length=8, width=8, layers=1, heads=2)
    model = DecomposedModel(target, {"*.c_attn[v]": 3, "*.mlp.c_fc": 4}, call=KeywordCall(**CALL))
    losses = {"r": {"class_path": "spd_lightning.Reconstruction", "init_args": {"distance": "kl"}}}
    run = written(folder / "run", model, {"class_path": "spd_lightning.TextTokens", "init_args": text}, losses)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPD_LIGHTNING_CACHE", str(folder / "cache"))
        yield run, TextTokens(**text)
