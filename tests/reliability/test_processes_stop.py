"""Several processes end together, whatever ends one of them."""

import os
import signal

import pytest
import torch

from tests.reliability.process_runs import Folder, alive, config, several, wait_for


@pytest.mark.parametrize(
    ("how", "said"),
    [
        pytest.param("raises", "this process has had enough", marks=pytest.mark.reliability),
        ("killed", "code -9"),
    ],
)
def test_a_process_that_dies_ends_the_run(how, said, tmp_path):
    folder = Folder(tmp_path / "dies", config(steps=100_000))
    extended = folder.extended(f"{{class_path: faulty.Dies, init_args: {{rank: 1, how: {how}}}}}")
    process = folder.start("fit", "--config", "tiny.yaml", *extended, *several(2))

    wait_for(folder.path / "died")
    printed = folder.finish(process, within=60)

    assert process.returncode != 0
    assert said in printed
    assert not alive(process.pid)


@pytest.mark.reliability
def test_numbers_that_one_process_spoils_stop_all_and_are_kept_once(tmp_path):
    folder = Folder(tmp_path / "spoilt", config(steps=100, merge_empty=True))
    extended = folder.extended("{class_path: faulty.Spoils}")
    process = folder.start("fit", "--config", "tiny.yaml", *extended, *several(2))

    printed = folder.finish(process)

    assert process.returncode == 2, printed[-2000:]
    assert "Traceback" not in printed
    assert "at step 5; the batch itself is not finite" in printed
    assert not alive(process.pid)
    (kept,) = (folder.run / "non_finite").iterdir()
    assert torch.load(kept, weights_only=True)["non_finite"]["batch"][0][-1, 0].isnan()


@pytest.mark.reliability
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("everyone", [True, False], ids=["the group", "one process"])
def test_interrupted_processes_stop_after_the_same_step_and_go_on(number, everyone, tmp_path):
    folder = Folder(tmp_path / "stopped", config(steps=100_000))
    process = folder.start("fit", "--config", "tiny.yaml", *several(2))
    wait_for(folder.logged)
    os.killpg(process.pid, number) if everyone else os.kill(process.pid, number)

    printed = folder.finish(process, within=60)

    assert process.returncode == 130, printed[-2000:]
    assert not alive(process.pid)
    stopped = torch.load(folder.run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    folder.fit(1, "--ckpt_path", "last", "--trainer.max_steps", str(stopped + 5))
