"""A classifier of real images: a good verdict from the shipped config, a bad one with advice from a bad setting."""

import json
from pathlib import Path

import pytest

from spd_lightning.cli.command import main

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def fit(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("digits"))
        patch.setenv("SPD_LIGHTNING_CACHE", str(tmp_path_factory.mktemp("cache")))

        def run(*options):
            cli = main(["fit", "--config", "digits.yaml", "--trainer.enable_progress_bar=false", *options])
            return Path(cli.trainer.log_dir).absolute()

        yield run


@pytest.fixture(scope="module")
def folder(fit):
    return fit()


@pytest.fixture(scope="module")
def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


def test_the_verdict_is_good_on_all_three_counts(metrics, folder):
    answers = [finding["answer"] for finding in metrics["verdict"]]

    assert answers == ["faithful", "sparse", "holds under attack"]
    page = (folder / "report.html").read_text()
    assert all(answer.capitalize() in page for answer in answers)


def test_the_decomposed_network_still_reads_digits(metrics):
    scores = metrics["scores"]

    assert scores["task/accuracy/target"] > 0.95
    assert scores["task/accuracy/rounded"] > scores["task/accuracy/target"] - 0.03
    assert scores["task/accuracy/zero"] < 0.3


def test_a_bad_setting_is_called_bad_with_the_right_advice(fit):
    folder = fit(
        "--model.losses.importance.coefficient=2.0",
        "--model.warmup.steps=0",
        "--trainer.max_steps=300",
        "--trainer.val_check_interval=300",
    )

    verdict = json.loads((folder / "metrics.json").read_text())["verdict"]
    assert verdict[0]["answer"] == "not faithful"
    advice = " ".join(answer["advice"] for answer in verdict)
    assert "model.warmup.steps (now 0)" in advice or "lower model.losses.importance.coefficient (now 2)" in advice
    assert "Not faithful" in (folder / "report.html").read_text()
