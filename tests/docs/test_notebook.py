"""The page on notebooks and the notebook itself do what they say, with fewer steps."""

import json
import re
from pathlib import Path

import pytest
import torch

from spd_lightning import DecomposedModel

DOCS = Path(__file__).parents[2] / "docs"


def _blocks(name):
    if name.endswith(".ipynb"):
        cells = json.loads((DOCS / name).read_text())["cells"]
        return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return re.findall(r"```python\n(.*?)```", (DOCS / name).read_text(), re.DOTALL)


def _short(block):
    return (
        block.replace('val=Digits("test"))', 'val=Digits("test"), steps=20, progress=False)')
        .replace("max_steps=100", "max_steps=4")
        .replace("val_check_interval=50", "val_check_interval=2, enable_progress_bar=False")
        .replace("ClassifierTraining(digits)", "ClassifierTraining(digits, steps=200)")
    )


@pytest.mark.filterwarnings("ignore")  # those of a Trainer without the command line's settings
@pytest.mark.parametrize("name", ["notebook.md", "digits.ipynb"])
def test_every_block_runs(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPD_LIGHTNING_CACHE", str(tmp_path.parent / "cache"))
    names: dict = {}

    for block in _blocks(name):
        exec(_short(block), names)

    assert "aithful: " in capsys.readouterr().out
    written = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {"components.safetensors", "config.json", *({"ablations.png"} if name == "notebook.md" else ())}
    again = DecomposedModel.from_pretrained("digits")
    assert torch.equal(again(names["images"]), names["model"](names["images"]))
    if "trainer" in names:
        assert names["trainer"].global_step == 4
        assert names["trainer"].callback_metrics["val/ablation/ci_masked"] > 0
