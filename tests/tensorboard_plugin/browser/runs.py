"""Small run directories of every kind, made by the package's own writers in a moment."""

import json
import shutil
from pathlib import Path

import torch
import yaml

from spd_lightning import KeywordCall, LanguageModel, StochasticDecomposition
from spd_lightning.analysis.__main__ import main as analyse
from spd_lightning.callbacks import (
    AblationCheck,
    ComponentActivity,
    ExportDecomposition,
    FinalReport,
    ImportanceTables,
)
from spd_lightning.data import TextTokens
from spd_lightning.targets import MLP
from tests.analysis.circuit_systems import known_induction
from tests.data.texts import documents, folder_of
from tests.methods.tiny import Batches, expected_notices, features, fit, make_trainer, toy
from tests.networks.models import randomised

TOY = {
    "class_path": "spd_lightning.SparseFeatures",
    "init_args": {"n_features": 5, "val_batches": 2, "val_batch_size": 8, "feature_probability": 0.4},
}
INDUCTION = {"class_path": "spd_lightning.data.InductionSequences", "init_args": {"size": 8, "split": "test"}}
SEQUENCES = {
    "class_path": "spd_lightning.DatasetBatches",
    "init_args": {"train": INDUCTION, "val": INDUCTION, "batch_size": 8, "val_batch_size": 8},
}
LOSSES = {"r": {"class_path": "spd_lightning.Reconstruction", "init_args": {"distance": "kl"}}}
CALL = {"inputs": ["input_ids", "attention_mask"], "weights": "attention_mask", "output": "logits"}
EVIL = '<img src=x onerror="window.top.evil=1"><script>window.top.evil=1</script>'
RIGHT_TO_LEFT = "\u202eevil\u200f"


def make_runs(folder: Path) -> None:
    """All of them, below a folder; what text needs goes beside it. They are the same whatever ran before."""
    torch.manual_seed(0)
    for seed in (0, 1):
        _toy(folder / f"toy/seed_{seed}", seed)
    _image(folder / "image")
    _induction(folder / "induction")
    _language(folder / "language", folder.parent / "texts")
    _hostile(folder / "language", folder / "<b>hostile&amp;\"'")


def _watching() -> list:
    return [
        ComponentActivity(),
        AblationCheck(adversary_steps=2, ladder=(2,)),
        ImportanceTables(),
        ExportDecomposition(),
        FinalReport(),
    ]


def _config(run: Path, data, losses=None, callbacks=()) -> None:
    content = {"trainer": {"callbacks": list(callbacks)}, "model": {"losses": losses}, "data": data}
    (run / "config.yaml").write_text(yaml.safe_dump(content))


def _scored(module, data, run: Path) -> None:
    """Test a decomposition as it is, and export it."""
    trainer = make_trainer(run, callbacks=_watching(), limit_test_batches=2)
    with expected_notices():
        trainer.test(module, data, verbose=False)
    module.model.save_pretrained(run)


def _toy(run: Path, seed: int) -> None:
    """Trained for four steps, with two validations."""
    module = toy(seed=seed)
    trainer = fit(module, features(), run, callbacks=_watching(), val_check_interval=2, limit_val_batches=None)
    with expected_notices():
        trainer.test(module, features(), verbose=False)
    _config(run, TOY)
    analyse(["harvest", str(run)])


def _image(run: Path) -> None:
    """A classifier of images of 4 by 5 pixels."""
    module = StochasticDecomposition(MLP([20, 6, 3]), {"fc*": 4})
    module.setup("test")
    _scored(module, Batches(torch.rand(6, 20)), run)
    shown = {"class_path": "ComponentImages", "init_args": {"image_shape": [4, 5]}}
    _config(run, TOY, callbacks=[shown])


def _induction(run: Path) -> None:
    """Induction by hand, as its terms are written, with a circuit."""
    model = known_induction()
    model.save_pretrained(run)
    _config(run, SEQUENCES, LOSSES)
    analyse(["harvest", str(run)])
    analyse(["circuit", str(run), "--example", "0", "--steps", "3", "--adversary_steps", "2"])


def _language(run: Path, texts: Path) -> None:
    """A language model with everything that analyses write."""
    text = {"sources": [folder_of(texts, documents(12))], "vocabulary": 300, "length": 8}
    text |= {"val_fraction": 0.4, "batch_size": 2, "val_batch_size": 4}
    target = LanguageModel("gpt2", vocabulary=300, length=8, width=8, layers=1, heads=2)
    call = KeywordCall(**CALL, labels="input_ids", ahead=1)
    module = StochasticDecomposition(target, {"*.c_attn[v]": 3, "*.mlp.c_fc": 4}, call=call)
    module.setup("test")
    randomised(module.model)
    _scored(module, TextTokens(**text), run)
    _config(run, {"class_path": "spd_lightning.TextTokens", "init_args": text}, LOSSES)
    for command in ("harvest", "cluster", "label"):
        analyse([command, str(run)])
    analyse(["graph", str(run), "--text", "the cat saw", "--next", " a"])
    analyse(["circuit", str(run), "--text", "the cat saw", "--next", " a", "--steps", "3", "--adversary_steps", "2"])


def _hostile(run: Path, into: Path) -> None:
    """The same run with markup, quotes, marks of direction and long texts wherever a file holds text."""
    shutil.copytree(run, into)
    folder = into / "analysis"
    labels = json.loads((folder / "labels.json").read_text())
    texts = [EVIL, RIGHT_TO_LEFT, "x" * 10_000, "'\"`${1}</style>"]
    for number, entry in enumerate(labels["labels"]):
        entry["label"] = texts[number % len(texts)]
    (folder / "labels.json").write_text(json.dumps(labels))
    lines = (folder / "harvest.jsonl").read_text().splitlines()
    (folder / "harvest.jsonl").write_text("".join(json.dumps(_evil(json.loads(line))) + "\n" for line in lines))
    for path in [*folder.glob("graphs/*.json"), *folder.glob("circuits/*.json")]:
        path.write_text(json.dumps(_evil(json.loads(path.read_text()))))


def _evil(value):
    """Plain data with hostile texts in place of tokens."""
    if isinstance(value, dict):
        return {
            name: _evil_texts(inner) if name in ("texts", "tokens") else _evil(inner) for name, inner in value.items()
        }
    if isinstance(value, list):
        return [_evil(inner) for inner in value]
    return value


def _evil_texts(value):
    if isinstance(value, list):
        return [_evil_texts(inner) for inner in value]
    return EVIL if isinstance(value, str) else value
