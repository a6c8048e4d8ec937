import json
import shutil
import struct
import zlib

import pytest
import torch
import yaml

from spd_lightning.callbacks import AblationCheck, ComponentActivity, FinalReport, ImportanceHeatmaps, MechanismRecovery
from tests.callbacks.perfect import Rows, perfect_decomposition
from tests.methods.tiny import expected_notices, make_trainer

CONFIG = {"seed_everything": 0, "model": {"sites": {"linear*": 4}, "target": {"init_args": {"n_features": 3}}}}


@pytest.fixture(scope="session")
def _tested(tmp_path_factory):
    """The folder of one perfect decomposition, tested once."""
    folder = tmp_path_factory.mktemp("runs") / "tiny" / "seed_0"
    scoring = [
        ComponentActivity(),
        AblationCheck(adversary_steps=3),
        MechanismRecovery(chance_draws=1),
        ImportanceHeatmaps(),
        FinalReport(),
    ]
    trainer = make_trainer(folder, callbacks=scoring)
    with expected_notices(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPD_LIGHTNING_CACHE", str(folder))
        data = Rows([torch.rand(8, 3, generator=torch.Generator().manual_seed(1))])
        trainer.test(perfect_decomposition([1.0, 1.0, 1.0]), datamodule=data, verbose=False)
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    return folder


@pytest.fixture
def finished(_tested, tmp_path):
    """A run directory of one's own: a 3-3 identity target, recovered; sites ``linear1`` and ``linear2``."""
    folder = tmp_path / "runs" / "tiny" / "seed_0"
    shutil.copytree(_tested, folder)
    return folder


@pytest.fixture
def rewrite():
    """Change ``metrics.json`` of a folder: what is given as scores is merged, all else replaced."""

    def change(folder, scores=None, without=(), **document):
        path = folder / "metrics.json"
        metrics = json.loads(path.read_text()) | document
        metrics["scores"] = {k: v for k, v in (metrics["scores"] | (scores or {})).items() if k not in without}
        path.write_text(json.dumps(metrics))

    return change


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.fixture
def png():
    """A black PNG of a size, written by hand."""

    def make(width=2, height=1, padding=0):
        header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
        pixels = zlib.compress(bytes(min(height, 4) * (1 + min(width, 4))))
        parts = [(b"IHDR", header), (b"IDAT", pixels), (b"tEXt", bytes(padding)), (b"IEND", b"")]
        return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts)

    return make
