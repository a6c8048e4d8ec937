"""The example of every page under docs/extend, taken from the page and run."""

import re
import sys
from pathlib import Path

import pytest
import torch

from spd_lightning.analysis import Edit, edited
from spd_lightning.cli.command import main
from spd_lightning.model.importance import Features

PAGES = Path(__file__).parents[2] / "docs/extend"
LIGHT = """
trainer:
  callbacks: []
  logger: false
  enable_checkpointing: false
  enable_progress_bar: false
"""
SMALL = ["--trainer.max_steps=3", "--trainer.val_check_interval=3"]
FEW_FEATURES = ["--data.batch_size=64", "--data.val_batches=1", "--data.val_batch_size=64"]
SHORT_TARGET = ["--model.recipe.steps=20", *FEW_FEATURES]
FLAWED = pytest.mark.filterwarnings("ignore:the trained target is flawed")  # 20 steps of training are too few


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A working directory with nothing in it, whose modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPD_LIGHTNING_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def _block(page, language):
    (block,) = re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)
    return block


def _fitted(name, *options):
    """The page's example, its files written as the page names them and its command run, with few and small steps."""
    page = (PAGES / f"{name}.md").read_text()
    (module,) = re.findall(r"`(\w+)\.py`:\n", page)
    Path(f"{module}.py").write_text(_block(page, "python"))
    assert f"`{module}.yaml`" in page
    Path(f"{module}.yaml").write_text(_block(page, "yaml"))
    Path("light.yaml").write_text(LIGHT)
    command = _block(page, "sh").split()
    assert command[:4] == ["python", "-m", "spd_lightning", "fit"]
    assert command[-2:] == ["--config", f"{module}.yaml"]

    cli = main([*command[3:-2], "--config", "light.yaml", *command[-2:], *SMALL, *options])

    assert cli.trainer.global_step == 3
    return cli, sys.modules[module]


def test_every_page_is_tried():
    tried = re.findall(r"_fitted\(\"(\w+)\"", Path(__file__).read_text())

    assert sorted(tried) == sorted(path.stem for path in PAGES.glob("*.md"))


@FLAWED
def test_an_importance_function():
    cli, example = _fitted("importance_function", *SHORT_TARGET)

    functions = cli.model.model.importance_function.functions
    assert {type(function) for function in functions.values()} == {example.SquaredGate}
    gate = functions["linear1"]
    assert gate.start == 0.5
    assert (gate.offset != 0.5).any()  # it was trained
    inner = torch.linspace(-1, 1, 40).expand(2, 40)
    importance = cli.model.model.logits({"linear1": inner, "linear2": inner}, Features({}))
    torch.testing.assert_close(importance["linear1"], gate.slope * inner**2 + gate.offset)


def test_a_kind_of_site():
    cli, example = _fitted("site_kind", "--model.warmup.steps=2", *FEW_FEATURES)

    model = cli.model.model
    assert model.site_names == ["up", "down"]
    assert {type(parts.site) for parts in model.components.values()} == {example.ScaledSite}
    x = torch.randn(3, 5)
    torch.testing.assert_close(x @ model.components["up"].site.weight().T, model.target.up(x))
    with torch.no_grad():
        torch.testing.assert_close(edited(model, [Edit("up", 3)])(x), model(x, ablated={"up": [3]}))


@FLAWED
def test_a_loss():
    cli, example = _fitted("loss", *SHORT_TARGET)

    loss = cli.model.terms()["indecision"]
    assert isinstance(loss, example.Indecision)
    assert loss.coefficient == 1e-4
    batch = torch.rand(6, 5)
    step = cli.model.step(batch, cli.model.validation_step(batch, 0)["step"].noise)
    by_hand = sum((g.lower * (1 - g.lower)).sum(-1).mean() for g in step.importance.values())
    torch.testing.assert_close(loss(step), by_hand)
    assert loss(step).requires_grad


def test_a_target():
    cli, example = _fitted("target", "--model.warmup.steps=2", *FEW_FEATURES)

    assert isinstance(cli.model.target, example.Stretch)
    assert torch.equal(cli.model.target.map.weight, torch.diag(torch.tensor([1.0, 2.0, 3.0, 4.0])))
    scored = {name.split("/")[-1] for name in cli.trainer.callback_metrics if "recovery/map" in name}
    assert {"mmcs", "ml2r", "identity_contradictions_0.2"} <= scored


def test_a_way_to_call_the_target():
    cli, example = _fitted("call", "--model.warmup.steps=2", "--data.val_batch_size=64")

    assert isinstance(cli.model.model.call, example.LengthCall)
    rows = example.Sequences(4)
    batch = {"x": rows.x, "length": torch.tensor([5, 3, 1, 2])}
    clean = cli.model.model.clean(batch)
    assert clean.weights.values.sum(1).tolist() == [5, 3, 1, 2]
    unpadded = cli.model.model.clean({"x": rows.x[1:2, :3], "length": torch.tensor([3])})
    torch.testing.assert_close(clean.output[1:2, :3], unpadded.output)


@FLAWED
def test_a_callback():
    cli, example = _fitted("callback", *SHORT_TARGET)

    (callback,) = (one for one in cli.trainer.callbacks if isinstance(one, example.Crowding))
    assert callback.threshold == 0.2
    for site in ("linear1", "linear2"):
        assert 0 <= cli.trainer.callback_metrics[f"test/crowding/{site}"] <= 40
        assert cli.trainer.callback_metrics[f"test/crowding/{site}"] == callback.most[site]
