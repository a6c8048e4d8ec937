"""The verdict on networks of one's own is what a look at the numbers says."""

import pytest
import torch

from spd_lightning import decompose
from spd_lightning.runs.findings import findings
from tests.notebook.networks import NETWORKS

ANSWERS = {
    "regression": ("faithful", "sparse", "holds under attack"),
    "autoencoder": ("faithful", "sparse", "holds under attack"),
    "dead_layer": ("faithful", "not sparse", "holds under attack"),
    "cnn": ("faithful", "sparse", "holds under attack"),
    "transformer": ("faithful", "sparse", "holds under attack"),
}
"""Of the network with a dead layer the other two layers use most of the few components that they have left, always."""
LONG = {"cnn", "transformer"}
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
    model = _judged(network, steps=800)
    found, scores = findings(model.scores), model.scores

    assert tuple(finding.answer for finding in found) == ANSWERS[network[0]]
    for finding in found:
        assert f"{finding.answer.capitalize()}: {finding.measured}." in capsys.readouterr().out or found.index(finding)
    # the look at the numbers
    zero = scores["ablation/zero"]
    assert scores["ablation/unmasked"] < 0.01 * zero
    assert max(scores["ablation/ci_masked"], scores["ablation/rounded"], scores["ablation/ladder_320"]) < 0.25 * zero
    used, alive = (sum(v for n, v in scores.items() if n.startswith(kind)) for kind in ("l0/", "alive/"))
    assert (used < alive / 2) == (ANSWERS[network[0]][1] == "sparse")
    if "task/accuracy/target" in scores:
        assert scores["task/accuracy/rounded"] > scores["task/accuracy/target"] - 0.05
    if network[0] == "dead_layer":
        assert scores["alive/dead"] == 0


def test_what_is_not_trained_is_not_called_good(network):
    model = _judged(network, steps=2)

    assert not all(finding.good for finding in findings(model.scores))


def test_a_setting_that_kills_everything_is_called_bad_with_the_right_advice(network):
    model = _judged(network, steps=200, coefficient=TOO_HIGH)

    faithful = next(finding for finding in findings(model.scores) if finding.question == "faithful")
    assert faithful.answer == "not faithful"
    assert "lower coefficient of the importance term" in faithful.advice
