"""The README's examples do what it says."""

import re
import sys
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from spd_lightning import DecomposedModel
from spd_lightning.cli.command import main
from spd_lightning.cli.config_files import check_config_file

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SHORT = ["--trainer.max_steps=4", "--trainer.val_check_interval=2", "--trainer.enable_progress_bar=false"]
NETWORK = """
import torch
from torch import nn
from torch.utils.data import Dataset


class Attention(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.c_attn, self.c_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        q, k, v = self.c_attn(x).chunk(3, -1)
        return self.c_proj(nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True))


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.attn = Attention(width)
        self.mlp = nn.Sequential()
        self.mlp.c_fc, self.mlp.act, self.mlp.c_proj = nn.Linear(width, 12), nn.GELU(), nn.Linear(12, width)

    def forward(self, x):
        x = x + self.attn(x)
        return x + self.mlp(x)


class MyNetwork(nn.Module):
    def __init__(self, width: int = 8):
        super().__init__()
        self.embed = nn.Embedding(11, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(2))
        self.head = nn.Linear(width, 11)

    def forward(self, input_ids):
        h = self.embed(input_ids)
        for block in self.blocks:
            h = block(h)
        return {"logits": self.head(h)}


class Text(Dataset):
    def __init__(self, split: str):
        generator = torch.Generator().manual_seed(len(split))
        self.ids = torch.randint(11, (64, 5), generator=generator)
        self.lengths = torch.randint(2, 6, (64,), generator=generator)

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, index):
        return {"input_ids": self.ids[index], "attention_mask": (torch.arange(5) < self.lengths[index]).long()}
"""
"""What the README says that a user has: a transformer, its data."""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPD_LIGHTNING_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield tmp_path
    for name in ("my_network", "sharpness"):
        sys.modules.pop(name, None)


def _block(language, containing):
    blocks = [block for block in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) if containing in block]
    assert len(blocks) == 1
    return blocks[0]


def _command(containing):
    return next(line for line in README.splitlines() if line.startswith("python") and containing in line).split()[3:]


def _scalar(run, tag):
    events = EventAccumulator(str(run))
    events.Reload()
    return [event.value for event in events.Scalars(tag)]


@pytest.mark.filterwarnings("ignore:the trained target is flawed")  # 20 steps of training are too few
def test_a_callback_of_ones_own_and_the_run_it_looked_at(folder, capsys):
    Path("sharpness.py").write_text(_block("python", "class Sharpness"))
    Path("sharpness.yaml").write_text(_block("yaml", "sharpness.Sharpness"))
    small = ["--model.recipe.steps=20", "--data.val_batches=1", "--data.val_batch_size=64"]

    cli = main([*_command("--config sharpness.yaml"), *SHORT, *small])

    run = folder / "runs/tms/version_0"
    (batch,) = cli.datamodule.test_dataloader()
    lower = cli.model.model.importance_of(batch)["linear1"].lower
    by_hand = ((lower == 0) | (lower == 1)).float().mean().item()
    assert cli.trainer.callback_metrics["test/sharpness"].item() == pytest.approx(by_hand)
    assert len(_scalar(run, "val/sharpness")) == 2

    capsys.readouterr()
    names: dict = {}
    exec(_block("python", "from_pretrained"), names)  # the example, as it stands

    wanted = cli.model.model.importance_of(0.75 * torch.eye(5))
    assert torch.equal(names["importance"]["linear1"].lower, wanted["linear1"].lower)
    assert "tensor(" in capsys.readouterr().out


def _own_network():
    Path("my_network.py").write_text(NETWORK)
    import my_network

    torch.manual_seed(3)
    network = my_network.MyNetwork()
    from safetensors.torch import save_file

    save_file(network.state_dict(), "weights.safetensors")
    return my_network, network


SITES = [
    f"blocks.{block}.{part}"
    for block in (0, 1)
    for part in ("attn.c_attn[q]", "attn.c_attn[k]", "mlp.c_fc", "mlp.c_proj")
]


@pytest.mark.filterwarnings("ignore:The number of training batches")  # one batch, logged every 100
def test_a_network_of_ones_own(folder, capsys):
    my_network, network = _own_network()
    Path("my_network.yaml").write_text(_block("yaml", "my_network.MyNetwork"))

    cli = main([*_command("--config my_network.yaml"), *SHORT, "--model.warmup.steps=2"])

    model = cli.model.model
    assert sorted(model.site_names) == sorted(SITES)
    assert all(
        torch.equal(ours, own) for ours, own in zip(model.target.parameters(), network.parameters(), strict=True)
    )
    queries = model.components["blocks.0.attn.c_attn[q]"]
    assert torch.equal(queries.site.weight(), network.blocks[0].attn.c_attn.weight[:8])
    assert cli.model.distance == "kl"
    assert "worst case over a fresh adversary" in capsys.readouterr().out
    batch = {name: rows[None] for name, rows in my_network.Text("val")[0].items()}
    read = DecomposedModel.from_pretrained(cli.trainer.log_dir)
    for call, importance in read.importance_of(batch).items():
        assert torch.equal(importance.lower, model.importance_of(batch)[call].lower)


def test_a_network_of_ones_own_in_python(folder, capsys):
    my_network, _ = _own_network()
    example = _block("python", "decompose(").replace('distance="kl",', 'distance="kl", steps=2, progress=False,')
    names: dict = {}

    exec(example, names)

    model = names["model"]
    assert model.site_names == [site for site in SITES if "mlp" in site]
    assert model.target is names["network"]
    assert isinstance(model.target, my_network.MyNetwork)
    printed = capsys.readouterr().out
    assert "aithful: " in printed
    assert model.summary() in printed


def test_commands_name_options_that_exist(capsys):
    for subcommand in ("fit", "test", "predict"):
        lines = [line for line in README.splitlines() if line.startswith(f"python -m spd_lightning {subcommand}")]
        assert lines
        with pytest.raises(SystemExit):
            main([subcommand, "--help"])
        known = capsys.readouterr().out
        for flag in {word for line in lines for word in re.findall(r"--([\w.]+)", line)} - {"config"}:
            assert f"--{flag.partition('.losses')[0]}" in known, flag


def test_its_configs_are_configs(tmp_path):
    for number, block in enumerate(re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)):
        path = tmp_path / f"{number}.yaml"
        path.write_text(block)
        check_config_file(path)


def test_numbers_of_results_are_those_that_were_measured():
    results = (ROOT / "docs/results.md").read_text().partition("## Summary")[2].partition("\n## ")[0]
    measured = {}
    for line in results.splitlines():
        cells = [cell.strip() for cell in line.strip("| \n").split("|")]
        if len(cells) >= 6:
            name, recovered, _, steps, time, paper, *_ = cells
            measured[name] = [recovered, steps, time, paper]
    rows = re.findall(r"^\| (\w\S*) \| (\d of \d) \| (.*) \| (.*) \| (.*) \|$", README, re.MULTILINE)

    assert len(rows) == 7
    for name, *cells in rows:
        assert cells == measured[name], name
