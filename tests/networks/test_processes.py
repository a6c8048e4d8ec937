"""Networks of any kind on several processes: the weights, losses and scores of one."""

import pytest

from tests.networks.configs import config_of
from tests.reliability.process_runs import Folder
from tests.reliability.process_runs import config as toy
from tests.reliability.test_processes import assert_same

pytestmark = pytest.mark.reliability
STEPS = 20


@pytest.mark.parametrize("name", ["padded dictionary", "pooled head", "shared layer", "token transformer", "gpt2"])
def test_two_processes_are_one_computation(name, tmp_path):
    """Padding is unevenly spread: the two see different numbers of positions that count."""
    settings = config_of(name, tmp_path)
    settings["trainer"] = toy(STEPS)["trainer"]
    settings["trainer"]["callbacks+"] = [{"class_path": "TrainingLog", "init_args": {"every_n_steps": 1}}]
    one, two = (Folder(tmp_path / str(count), settings) for count in (1, 2))
    one.fit()
    two.fit(2)

    assert_same(two, one)
    for score, value in one.scores().items():
        assert two.scores()[score] == pytest.approx(value, rel=1e-3, abs=1e-5), score
