"""``--trainer.strategy sharded``: parameters in shards; numbers and files of one process, less memory on each."""

import pytest
import torch

from tests.reliability.process_runs import Folder, config
from tests.reliability.test_processes import ALL, STEPS, TOLERANCE, assert_same

SHARDED = ["--trainer.strategy", "sharded"]
KEEPING = "{class_path: Checkpoints, init_args: {every_n_train_steps: 100, dirpath: kept}}"
EVERY_PARAMETER = 8 * (5 + 2) + 2 * 8 * (16 + 16 + 16 + 1)
"""Of eight components, tied, and two sites' gates."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    path = tmp_path_factory.mktemp("sharding")
    made = {name: Folder(path / name, config()) for name in ("whole", "shards")}
    made["whole"].fit(1, *made["whole"].extended(KEEPING))
    made["shards"].fit(2, *SHARDED, *made["shards"].extended(KEEPING))
    return made


def test_shards_are_one_computation(folders):
    assert_same(folders["shards"], folders["whole"])


def test_checkpoints_are_those_of_one_process(folders):
    states = [torch.load(_kept(folder), weights_only=True) for folder in folders.values()]
    moments = [state["optimizer_states"][0]["state"] for state in states]

    torch.testing.assert_close(states[1]["state_dict"], states[0]["state_dict"], **TOLERANCE)
    assert states[1]["optimizer_states"][0]["param_groups"] == states[0]["optimizer_states"][0]["param_groups"]
    assert len(moments[0]) > 5
    for number, expected in moments[0].items():
        torch.testing.assert_close(moments[1][number], expected, **TOLERANCE)


@pytest.mark.reliability
@pytest.mark.parametrize(("before", "after"), [("shards", "shards"), ("shards", "whole"), ("whole", "shards")])
def test_a_run_goes_on_with_either_strategy(before, after, folders, tmp_path):
    folder = Folder(tmp_path / "resumed", config())

    folder.fit(*((2, *SHARDED) if after == "shards" else (1,)), "--ckpt_path", str(_kept(folders[before])))

    torch.testing.assert_close(folder.weights(), folders["whole"].weights(), **TOLERANCE)


@pytest.mark.reliability
@pytest.mark.parametrize("losses", ALL)
@pytest.mark.parametrize(
    ("processes", "options"),
    [(4, []), (2, ["--model.init", "examples"]), (2, ["--trainer.accumulate_grad_batches", "3"])],
    ids=["four", "examples", "accumulated"],
)
def test_any_number_of_shards_is_one_computation(processes, options, losses, tmp_path):
    folders = [Folder(tmp_path / str(count), config(STEPS[losses], ALL[losses])) for count in (1, processes)]
    folders[0].fit(1, *options)
    folders[1].fit(processes, *SHARDED, *options)

    assert_same(folders[1], folders[0])


def test_parameters_that_are_kept_equal_are_refused(tmp_path):
    folder = Folder(tmp_path / "twice", config())
    process = folder.start(
        *("fit", "--config", "tiny.yaml", "--trainer.devices", "2", *SHARDED, "--model.tied_updates", "twice")
    )
    said = folder.finish(process)

    assert process.returncode == 2
    assert "sharded parameters cannot be kept equal; use tied_updates once, or ddp" in said
    assert "Traceback" not in said


@pytest.mark.reliability
def test_each_process_holds_its_shards_alone(tmp_path):
    """Of parameters, gradients and moments, between steps; nothing here divides unevenly."""
    held = {}
    for strategy in ("ddp", "sharded"):
        folder = Folder(tmp_path / strategy, config(steps=2))
        folder.fit(2, "--trainer.strategy", strategy, *folder.extended("{class_path: faulty.Weighs}"))
        held[strategy] = [int((folder.path / f"held-{rank}").read_text()) for rank in (0, 1)]

    whole = held["ddp"][0]
    assert whole > 4 * 4 * EVERY_PARAMETER
    assert held["ddp"] == [whole, whole]
    assert sum(held["sharded"]) < 1.05 * whole  # step counters are whole on each
    assert max(held["sharded"]) < 0.55 * whole


def _kept(folder):
    return folder.path / "kept" / "step=100.ckpt"
