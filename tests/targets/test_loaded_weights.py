"""Weights of any network from a file."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from spd_lightning import LoadedWeights, UsageError


def _network():
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2, bias=False))


def _state(prefix=""):
    torch.manual_seed(11)
    return {prefix + name: torch.randn_like(tensor) for name, tensor in _network().state_dict().items()}


def _write(path, content):
    save_file(content, path) if path.suffix == ".safetensors" else torch.save(content, path)
    return str(path)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.pth"])
def test_a_state_dict_fills_the_network(name, tmp_path):
    network = _network()

    LoadedWeights(_write(tmp_path / name, _state())).prepare(network)

    for key, tensor in _state().items():
        assert torch.equal(network.state_dict()[key], tensor)


@pytest.mark.parametrize("name", ["w.ckpt", "w.safetensors"])
def test_a_prefix_is_taken_off_and_everything_else_passed_over(name, tmp_path):
    content = _state("model.") | {"optimizer.step": torch.ones(1)}
    if name == "w.ckpt":
        content = {"epoch": 3, "state_dict": content, "hyper_parameters": {"lr": 0.1}}
    network = _network()

    LoadedWeights(_write(tmp_path / name, content), prefix="model.").prepare(network)

    assert torch.equal(network[0].weight, _state()["0.weight"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("1.weight"), "holds no '1.weight', which the target needs"),
        (
            lambda state: state.update({"0.bias": torch.ones(5)}),
            r"'0.bias' has another shape: \[5\] in the file, \[4\]",
        ),
        (lambda state: state.update({"2.weight": torch.ones(5)}), "holds '2.weight', which the target does not have"),
    ],
    ids=["missing", "shape", "unknown"],
)
def test_what_does_not_fit_is_named_and_changes_nothing(change, message, tmp_path):
    state, network = _state(), _network()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    change(state)
    path = _write(tmp_path / "w.safetensors", state)

    with pytest.raises(UsageError, match=message) as refused:
        LoadedWeights(path).prepare(network)

    assert path in str(refused.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


class Payload:
    """Anything that is neither tensor nor plain data."""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": "text"}, "not a state dict of tensors"),
        ([torch.ones(2)], "not a state dict of tensors"),
        ({}, "not a state dict of tensors"),
        ({"a": Payload()}, "holds objects other than tensors and plain data; refused"),
    ],
    ids=["no tensors", "list", "empty", "objects"],
)
def test_a_file_of_something_else_is_refused(content, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        LoadedWeights(_write(tmp_path / "w.pt", content)).prepare(_network())


def test_a_prefix_that_no_name_has_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"no name starts with 'net\.'"):
        LoadedWeights(_write(tmp_path / "w.pt", _state()), prefix="net.").prepare(_network())


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_a_missing_or_damaged_file_is_named(name, tmp_path):
    path = tmp_path / name
    with pytest.raises(UsageError, match=f"{name}' does not exist"):
        LoadedWeights(str(path)).prepare(_network())
    _write(path, _state())
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UsageError, match=f"{name}' is damaged or not a"):
        LoadedWeights(str(path)).prepare(_network())
