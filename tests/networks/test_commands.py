"""Every network of the list through the real command line: fit, test, predict, resume, artefact."""

from pathlib import Path

import pytest
import torch
import yaml

from spd_lightning import DecomposedModel
from spd_lightning.cli.command import main
from tests.networks.data import saved_weights
from tests.networks.zoo import ZOO, example, network

STEPS, HALFWAY = 100, 50


def _config(name, folder) -> str:
    """A few lines of YAML, as a user would write them."""
    entry, cls = ZOO[name], type(network(name))
    data = {"class_path": "tests.networks.data.Examples", "init_args": {"network": name}}
    kl = {"distance": "kl"} if entry.options.get("kl") or "embed" in entry.sites else {}
    model = {
        "target": {"class_path": f"{cls.__module__}.{cls.__qualname__}"},
        "recipe": {"class_path": "LoadedWeights", "init_args": {"path": saved_weights(network(name), "weights.pt")}},
        "sites": entry.sites,
        "importance": {
            "class_path": "PerSite",
            "init_args": {"function": {"class_path": "GateMLP", "init_args": {"hidden": [4]}}},
        },
        "losses": {
            "faithfulness": {"class_path": "Faithfulness"},
            "stochastic": {"class_path": "Reconstruction", "init_args": {"routing": "subset", **kl}},
            "importance": {"class_path": "ImportanceMinimality", "init_args": {"coefficient": 1e-4}},
        },
    }
    if entry.call is not None:
        model["call"] = entry.call
    config = {
        "trainer": {
            "max_steps": STEPS,
            "val_check_interval": HALFWAY,
            "enable_progress_bar": False,
            "logger": {
                "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
                "init_args": {"save_dir": "runs", "name": "net", "default_hp_metric": False},
            },
            "callbacks+": [
                {"class_path": "Checkpoints", "init_args": {"every_n_train_steps": HALFWAY, "save_top_k": -1}},
            ],
        },
        "model": model,
        "data": {
            "class_path": "DatasetBatches",
            "init_args": {
                "train": data,
                "val": {**data, "init_args": {"network": name, "batches": 2, "first": 90}},
                "predict": {**data, "init_args": {"network": name, "batches": 1, "first": 95}},
                "batch_size": 4,
                "val_batch_size": 4,
            },
        },
    }
    (folder / "net.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return "net.yaml"


def _trained(path: Path) -> dict[str, torch.Tensor]:
    state = torch.load(path, weights_only=True)["state_dict"]
    return {name: tensor for name, tensor in state.items() if not name.startswith("model.target.")}


ALWAYS = ("in-place residual", "padded dictionary", "gpt2", "shared layer")
"""Taken through the commands by every run of the tests, the others by `make reliability`."""


@pytest.mark.parametrize(
    "name", [name if name in ALWAYS else pytest.param(name, marks=pytest.mark.reliability) for name in ZOO]
)
def test_commands(name, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    config = _config(name, tmp_path)
    trained = main(["fit", "--config", config])
    run = tmp_path / "runs/net/version_0"
    last = _trained(run / "checkpoints/last.ckpt")
    assert (run / "report.html").exists()
    assert all(tensor.isfinite().all() and tensor.dtype == torch.float32 for tensor in last.values())

    ours = DecomposedModel.from_pretrained(run, target=None if ZOO[name].call is None else network(name))
    batch = example(name, 91)
    with torch.no_grad():
        kept = trained.model.model.importance_of(batch)
        for call, importance in ours.importance_of(batch).items():
            assert torch.equal(importance.lower, kept[call].lower)

    main(["test", "--config", str(run / "config.yaml"), "--ckpt_path", str(run / "checkpoints/last.ckpt")])
    main(
        [
            "predict",
            "--config",
            str(run / "config.yaml"),
            "--ckpt_path",
            str(run / "checkpoints/last.ckpt"),
            "--output",
            "importances.pt",
        ]
    )
    assert not (tmp_path / "config.yaml").exists()
    predicted = torch.load("importances.pt", weights_only=True)
    assert predicted.keys() == kept.keys()
    with torch.no_grad():
        for call, importance in ours.importance_of(example(name, 95)).items():
            torch.testing.assert_close(predicted[call], importance.lower, rtol=1e-5, atol=1e-6)

    halfway = next(path for path in (run / "checkpoints").glob("*.ckpt") if f"step={HALFWAY}" in path.name)
    again = tmp_path / "runs/again/version_0/checkpoints"
    again.mkdir(parents=True)
    (again / halfway.name).write_bytes(halfway.read_bytes())
    (again.parent / "config.yaml").write_bytes((run / "config.yaml").read_bytes())
    main(["fit", "--config", config, "--ckpt_path", str(again / halfway.name)])
    resumed = _trained(again / "last.ckpt")
    assert resumed.keys() == last.keys()
    assert all(torch.equal(tensor, last[name]) for name, tensor in resumed.items())
