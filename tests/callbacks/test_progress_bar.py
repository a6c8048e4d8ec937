import io
import re
import sys

import pytest

from spd_lightning import FeatureTraining, Warmup
from spd_lightning.callbacks import DecompositionProgressBar
from spd_lightning.callbacks.progress_bar import _is_told
from tests.methods.tiny import features, fit, toy, toy_target

LINE = re.compile(
    r"step (\d+)(/\d+)?: ((?:\w+ \d\.\d\de[+-]\d\d(?:, )?)+)( \([\d.e+]+ steps/s(?:, \d\d:\d\d left)?\))?"
)


class Terminal(io.StringIO):
    """Text that says it is shown to somebody."""

    def isatty(self):
        return True


@pytest.fixture
def streams(monkeypatch):
    """Replaces stdout and stderr by terminals or files."""

    def replace(out, err):
        streams = [kind() for kind in (out, err)]
        monkeypatch.setattr(sys, "stdout", streams[0])
        monkeypatch.setattr(sys, "stderr", streams[1])
        return streams

    return replace


def _fit(folder, bar=None, **options):
    settings = {"max_steps": 40, "enable_progress_bar": True} | options
    return fit(toy(), features(), folder, callbacks=[bar or DecompositionProgressBar(1)], **settings)


@pytest.mark.parametrize(("out", "err"), [(io.StringIO, io.StringIO), (Terminal, io.StringIO), (io.StringIO, Terminal)])
def test_without_a_terminal_a_plain_line_is_written_every_so_often(out, err, tmp_path, streams):
    out, err = streams(out, err)

    _fit(tmp_path)

    lines = [LINE.fullmatch(line) for line in err.getvalue().splitlines() if line.startswith("step ")]
    assert all(lines)
    steps = [int(line[1]) for line in lines]
    assert steps == sorted(set(steps))
    assert {1, 10, 40} <= set(steps)
    assert 20 <= len(steps) <= 32
    assert {line[2] for line in lines} == {"/40"}
    assert [line[4] is None for line in lines] == [step == 1 for step in steps]  # the first step prepares the others
    assert all(" left)" in line[0] for line in lines[1:])
    assert [term.split()[0] for term in lines[0][3].split(", ")] == [
        "faithfulness",
        "stochastic",
        "layerwise",
        "importance",
    ]
    assert "\r" not in out.getvalue() + err.getvalue()
    assert "it/s" not in out.getvalue() + err.getvalue()


def test_a_terminal_is_shown_a_bar_with_the_terms(tmp_path, streams):
    out, err = streams(Terminal, Terminal)

    _fit(tmp_path)

    assert "\r" in out.getvalue()
    assert re.search(r"faithfulness=\d\.\d\de[+-]\d\d", out.getvalue())
    assert "step 1" not in err.getvalue()


def test_a_rate_of_nothing_says_nothing_anywhere(tmp_path, streams):
    out, err = streams(io.StringIO, io.StringIO)

    _fit(tmp_path, DecompositionProgressBar(0))

    assert "step 1" not in out.getvalue() + err.getvalue()


def test_accumulated_batches_are_one_step(tmp_path, streams):
    _, err = streams(io.StringIO, io.StringIO)

    _fit(tmp_path, max_steps=3, accumulate_grad_batches=4)

    assert [line.split(":")[0] for line in err.getvalue().splitlines() if line.startswith("step ")] == [
        "step 1/3",
        "step 2/3",
        "step 3/3",
    ]


def test_a_resumed_run_goes_on_counting(tmp_path, streams):
    _, err = streams(io.StringIO, io.StringIO)
    bar = DecompositionProgressBar()
    _fit(tmp_path, bar, max_steps=2).save_checkpoint(tmp_path / "two.ckpt")
    err.truncate(0)

    _fit(tmp_path, bar, max_steps=4, ckpt_path=tmp_path / "two.ckpt")

    assert [line.split(":")[0].strip("\0") for line in err.getvalue().splitlines() if ": faith" in line] == [
        "step 3/4",
        "step 4/4",
    ]


@pytest.mark.parametrize("total", [1, 7, 100, 12_345, 310_000])
def test_however_long_the_run_is_lines_are_few_and_the_last_step_is_told(total):
    told = [step for step in range(1, total + 1) if _is_told(step, total)]

    assert told[0] == 1
    assert told[-1] == total
    assert len(told) <= 25 + 6


def test_a_run_without_end_is_told_at_powers_of_two():
    assert [step for step in range(1, 100) if _is_told(step, -1)] == [1, 2, 4, 8, 16, 32, 64]


def _train_target(cache, monkeypatch):
    monkeypatch.setenv("SPD_LIGHTNING_CACHE", str(cache))
    recipe = FeatureTraining(steps=3, batch_size=4)
    with pytest.warns(UserWarning, match="the trained target is flawed"):
        recipe.prepare(toy_target())


def _warm_up(*_):
    Warmup(steps=3).run(toy().model, 1)


@pytest.mark.parametrize(("work", "said"), [(_train_target, "Training the target"), (_warm_up, "Faithfulness warm-up")])
def test_what_comes_before_training_draws_a_bar_or_tells_in_lines(work, said, tmp_path, streams, monkeypatch):
    _, err = streams(io.StringIO, io.StringIO)
    work(tmp_path / "first", monkeypatch)
    assert err.getvalue() == "", "over in a moment"

    monkeypatch.setattr("spd_lightning.files.progress.LINE_INTERVAL_S", 0.0)
    work(tmp_path / "in_lines", monkeypatch)
    lines = err.getvalue().splitlines()
    assert re.fullmatch(said + r": [0-3] of 3 in 00:\d\d, (\?|00:\d\d) left(, loss=.*)?", lines[-1])
    assert "\r" not in err.getvalue()

    _, err = streams(Terminal, Terminal)
    work(tmp_path / "second", monkeypatch)
    assert said in err.getvalue()


def test_a_warm_up_that_is_not_to_be_shown_is_not(streams):
    _, err = streams(Terminal, Terminal)

    Warmup(steps=3).run(toy().model, 1, show=False)

    assert err.getvalue() == ""
