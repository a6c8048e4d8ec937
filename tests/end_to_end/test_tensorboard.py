"""A real TensorBoard server on a finished run offers what the README lists."""

import json
import re
import subprocess
import sys
import time
import urllib.request

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(finished_run):
    """Address of a server on the run's parent folder."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(finished_run.folder.parent), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        for line in process.stderr:
            found = re.search(r"http://localhost:\d+", line)
            if found:
                yield found.group().replace("localhost", "127.0.0.1")
                break
        else:
            pytest.fail("TensorBoard ended without an address")
    finally:
        process.terminate()
        process.wait(timeout=20)
        process.stderr.close()


def _ask(server, path, body=None):
    request = urllib.request.Request(f"{server}/data/plugin/{path}", data=body)
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


def _tags(server, plugin):
    """Tags of the run, once the server has read them."""
    for _ in range(60):
        runs = _ask(server, f"{plugin}/tags")
        if runs.get("version_0"):
            return set(runs["version_0"])
        time.sleep(0.5)
    pytest.fail(f"TensorBoard offers no {plugin}")


def test_scalars(server):
    tags = _tags(server, "scalars")

    assert {f"train/{name}" for name in ("loss", "faithfulness", "stochastic", "layerwise", "importance", "lr")} <= tags
    for site in ("linear1", "linear2"):
        scores = ("mmcs", "chance_mmcs", "ml2r", "identity_contradictions_0.1", "identity_contradictions_0.2")
        assert {f"val/recovery/{site}/{name}" for name in scores} <= tags
        assert {f"val/l0/{site}", f"val/alive/{site}"} <= tags
    regimes = ("unmasked", "ci_masked", "rounded", "stochastic", "worst_case", "zero")
    assert {f"val/ablation/{name}" for name in regimes} <= tags


def test_scalars_are_curves(server):
    _tags(server, "scalars")

    points = _ask(server, "scalars/scalars?run=version_0&tag=val%2Frecovery%2Flinear1%2Fmmcs")

    assert [point[1] for point in points] == [1000, 2000, 3000, 4000, 5000, 6000]


def test_images(server):
    tags = {tag.rpartition("/")[0] if tag[-1].isdigit() and tag[-2] == "/" else tag for tag in _tags(server, "images")}

    wanted = ("importance_heatmap", "importance_histogram", "importance_spectrum", "ablation_distances")
    wanted = (*wanted, "component_vectors/linear1", "single_ablations")
    assert {f"pictures/{name}" for name in wanted} <= tags


def test_custom_scalars_group_them(server):
    _tags(server, "scalars")

    layout = _ask(server, "custom_scalars/layout")

    titles = [category["title"] for category in layout["category"]]
    assert titles == ["Headline", "Objective", "Components in use", "Recovery of known mechanisms", "Ablation"]


def test_hyper_parameters_stand_beside_final_scores(server):
    _tags(server, "scalars")

    experiment = _ask(server, "hparams/experiment", body=b'{"experimentName": ""}')

    assert "seed" in {parameter["name"] for parameter in experiment["hparamInfos"]}
    scores = {metric["name"]["tag"] for metric in experiment["metricInfos"]}
    assert {"val/recovery/linear1/mmcs", "headline/l0", "headline/relative_distance/worst_case"} <= scores
