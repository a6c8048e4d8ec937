"""Every network of the list through the real command line: fit, test, predict, resume, artefact."""

from pathlib import Path

import pytest
import torch
import yaml

from spd_lightning import DecomposedModel
from spd_lightning.cli.command import main
from tests.networks.configs import HALFWAY, config_of
from tests.networks.zoo import ZOO, example, network


def _trained(path: Path) -> dict[str, torch.Tensor]:
    state = torch.load(path, weights_only=True)["state_dict"]
    return {name: tensor for name, tensor in state.items() if not name.startswith("model.target.")}


ALWAYS = ("in-place residual", "padded dictionary")
"""Taken through the commands by every run of the tests, the others by `make reliability`."""


@pytest.mark.parametrize(
    "name", [name if name in ALWAYS else pytest.param(name, marks=pytest.mark.reliability) for name in ZOO]
)
def test_commands(name, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    config = "net.yaml"
    Path(config).write_text(yaml.safe_dump(config_of(name, tmp_path), sort_keys=False))
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
