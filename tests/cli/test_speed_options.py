"""How a step is computed, as asked for on the command line."""

import importlib

import pytest
import torch

from spd_lightning import Speed

REFUSED = {
    "kind": (["--model.speed.step=quick"], "quick"),
    "too few nodes": (["--model.speed.table_nodes=3"], "speed.table_nodes must be 0 or lie in [8, 2049], got 3"),
    "too many nodes": (["--model.speed.table_nodes=5000"], "got 5000"),
    "nodes below 0": (["--model.speed.table_nodes=-1"], "got -1"),
    "no number of nodes": (["--model.speed.table_nodes=many"], 'key "model.speed.table_nodes"'),
    "tolerance of 0": (["--model.speed.table_tolerance=0"], "speed.table_tolerance must be a finite number above 0"),
    "tolerance of nan": (["--model.speed.table_tolerance=.nan"], "speed.table_tolerance must be a finite number"),
    "unknown key": (["--model.speed.fast=true"], "fast"),
    "merging that is neither": (["--data.merge_empty=perhaps"], "perhaps"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_options(case, refused):
    arguments, message = REFUSED[case]
    assert message in refused("fit", *arguments)


def test_a_table_that_is_too_coarse_is_refused_in_one_line(run, capsys):
    with pytest.raises(SystemExit) as stopped:
        run("fit", "--data.batch_size=300", "--data.merge_empty=false", "--model.speed.table_nodes=9")
    assert stopped.value.code == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "it/s" not in line and line.strip())
    assert line.startswith("error: speed.table_nodes: 9 nodes exceed speed.table_tolerance (1.0e-05); raise ")


def _trained(cli):
    return [p.detach().clone() for p in cli.model.model.parameters() if p.requires_grad]


@pytest.mark.reliability
def test_plain_and_fast_runs_train_much_the_same(run):
    data = ["--data.batch_size=600", "--data.merge_empty=false"]
    fast, plain = run("fit", *data), run("fit", *data, "--model.speed.step=plain")
    assert fast.model.speed == Speed()
    assert plain.model.speed.step == "plain"
    assert fast.trainer.global_step == plain.trainer.global_step == 6
    for one, other in zip(_trained(fast), _trained(plain), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0.02)
    assert not torch.equal(_trained(fast)[0], _trained(plain)[0])


def test_without_a_compiler_one_line_says_so(run, monkeypatch, capsys):
    build = importlib.import_module("spd_lightning.kernels.build").build
    for room in ("kernels.dispatch", "methods.speed"):
        room = importlib.import_module(f"spd_lightning.{room}")
        monkeypatch.setattr(room, "build", lambda: type(build())(None, "no C compiler was found (CC, cc, gcc, clang)"))
    run("fit")
    notices = [line for line in capsys.readouterr().err.splitlines() if "compiled kernels" in line]
    assert notices == [
        "notice: the step runs without compiled kernels, since no C compiler was found (CC, cc, gcc, clang); "
        "the same formulas, slower"
    ]
