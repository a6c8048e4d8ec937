"""The verdict on networks of one's own is what a look at the numbers says."""

import os
import signal

import pytest
import torch
from lightning.pytorch import Callback

from spd_lightning import ImportanceMinimality, SiteTransformer, UsageError, decompose, untuned_losses
from spd_lightning.runs.findings import findings
from tests.notebook.networks import NETWORKS

LONG = {"cnn", "transformer"}
DENSE = {"dead_layer", "regression"}
"""Use most of the few components that they have left, always."""
TOO_HIGH = 3.0
"""A component must be worth more than everything together."""


@pytest.fixture(
    scope="module", params=[pytest.param(n, marks=pytest.mark.reliability if n in LONG else ()) for n in NETWORKS]
)
def network(request):
    torch.manual_seed(0)
    return request.param, *NETWORKS[request.param]()


def _judged(network, **options):
    _, target, data, sites = network
    return decompose(target, data, sites, progress=False, **options)


def test_a_trained_decomposition(network, capsys):
    importance = SiteTransformer if network[0] == "transformer" else None
    decomposed = _judged(network, steps=2000 if network[0] in LONG else 800, importance=importance)
    scores = decomposed.scores
    answers = {finding.question: finding for finding in findings(scores)}
    printed = capsys.readouterr().out

    for finding in answers.values():
        assert f"{finding.answer.capitalize()}: {finding.measured}." in printed
    # the look at the numbers
    zero = scores["ablation/zero"]
    attacked = max(scores[f"ablation/ladder_{steps}"] for steps in (20, 80, 320))
    used, alive = (sum(value for name, value in scores.items() if name.startswith(kind)) for kind in ("l0/", "alive/"))
    assert scores["ablation/unmasked"] < 0.01 * zero
    assert max(scores["ablation/ci_masked"], scores["ablation/rounded"]) < 0.25 * zero
    assert answers["faithful"].good
    assert answers["attack"].good == (attacked < 0.25 * zero)
    assert answers["attack"].good or network[0] in LONG
    assert answers["sparse"].good == (used < alive / 2) == (network[0] not in DENSE)
    assert used < sum(decomposed.components[site].n_components for site in decomposed.site_names) / 4
    if "task/accuracy/target" in scores:
        assert scores["task/accuracy/rounded"] > scores["task/accuracy/target"] - 0.05
    if network[0] == "dead_layer":
        assert scores["alive/dead"] == 0


def test_the_tolerance_is_the_knob(capsys):
    torch.manual_seed(0)
    few, more = (
        sum(_judged(("regression", *NETWORKS["regression"]()), steps=400, tolerance=t).scores[f"l0/{n}"] for n in "024")
        for t in (0.2, 0.02)
    )

    assert 1.5 * few < more
    assert "tolerance (now 0.2)" in capsys.readouterr().out


def test_what_is_not_trained_is_not_called_good(network):
    model = _judged(network, steps=2)

    assert not all(finding.good for finding in findings(model.scores))


def test_a_setting_that_kills_everything_is_called_bad_with_the_right_advice(network, capsys):
    distance = "kl" if network[0] in LONG else "mse"
    losses = untuned_losses(distance) | {"importance": ImportanceMinimality(TOO_HIGH)}
    model = _judged(network, steps=800 if network[0] in LONG else 200, losses=losses)

    faithful = next(finding for finding in findings(model.scores) if finding.question == "faithful")
    assert faithful.answer == "not faithful"
    assert f"lower losses.importance.coefficient (now {TOO_HIGH:g}), or raise" in capsys.readouterr().out


class _CtrlC(Callback):
    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if batch_idx == 3:
            os.kill(os.getpid(), signal.SIGINT)
        self.last = batch_idx


@pytest.mark.parametrize(
    ("odd", "said"), [(slice(None), "changes the output by nan"), (131, "batch itself is not finite")]
)
def test_numbers_that_are_not_finite_end_it_in_one_line_without_a_file(odd, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = torch.rand(200, 3)
    data[odd] = float("nan")

    with pytest.raises(UsageError, match=rf"{said}.*look at the data"):
        decompose(torch.nn.Sequential(torch.nn.Linear(3, 2)), data, {"0": 4}, steps=20, batch_size=32, progress=False)

    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_ends_training_and_leads_to_a_verdict():
    target, data, sites = NETWORKS["regression"]()
    asking = _CtrlC()

    model = decompose(target, data, sites, steps=50, progress=False, callbacks=[asking])

    assert asking.last == 3
    assert len(findings(model.scores)) == 3
