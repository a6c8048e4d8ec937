"""The rules, on numbers that are made up."""

import pytest

from spd_lightning.model.importance.base import SiteShape
from spd_lightning.recommend import components_for
from spd_lightning.recommend.measures import NetworkMeasure, SiteMeasure
from spd_lightning.recommend.places import PlaceMeasure
from spd_lightning.recommend.rules import batch_for, importance_for, power_of_two, steps_for


def _network(*, empty=0.0, positions=1.0, spread=False, convolves=False, directions=0, shape=(5, 2), sites=("a",)):
    reached = PlaceMeasure(empty, positions, 3.2, directions, 100, spread)
    found = {name: SiteMeasure(shape, 2, reached, 1.0) for name in sites}
    return NetworkMeasure(found, reached, "mse", 1.0, 1.0, convolves)


@pytest.mark.parametrize(
    ("rank", "features", "spare", "expected"),
    [
        (2, 5, 4, 40),
        (10, 40, 4, 160),
        (50, 12, 4, 200),
        (10, 10, 4, 40),
        (11, 0, 4, 44),
        (50, 12, 1, 50),
        (0, 0, 2, 20),
    ],
)
def test_components(rank, features, spare, expected):
    assert components_for(rank, features, spare) == expected


def test_four_components_are_the_rule():
    assert components_for(30, 31) == 124


@pytest.mark.parametrize(
    ("empty", "positions", "examples", "expected"),
    [
        (0.0, 1, None, 256),  # 160 positions are wanted
        (0.75, 1, None, 1024),  # 640
        (0.0, 12, None, 16),  # 14 examples, and 16 are the fewest
        (0.99, 1, None, 4096),  # 16 000, and 4096 are the most
        (0.0, 1, 400, 64),  # a quarter is 100
        (0.0, 1, 3, 1),
    ],
)
def test_batch(empty, positions, examples, expected):
    assert batch_for(_network(empty=empty, positions=positions), {"a": 40}, examples) == expected


def test_the_site_with_the_fewest_positions_a_component_decides():
    assert batch_for(_network(sites=("a", "b")), {"a": 40, "b": 400}) == 2048


def test_a_site_that_nothing_reaches_does_not_count():
    network = _network(sites=("a", "b"))
    network.sites["b"] = SiteMeasure((5, 2), 2, PlaceMeasure(1.0, 1.0, 0.0, 0, 0, False), 0.5)

    assert batch_for(network, {"a": 40, "b": 400}) == 256


@pytest.mark.parametrize(
    ("batch", "examples", "expected"),
    [
        (256, None, 5000),  # 6.4 positions a component and step, of 32 000
        (64, None, 6000),
        (2048, None, 4000),
        (256, 2304, 4500),  # 500 passes of 9 steps
        (256, 256, 4000),
    ],
)
def test_steps(batch, examples, expected):
    assert steps_for(_network(), {"a": 40}, batch, examples) == expected


def test_powers_of_two():
    assert [power_of_two(number) for number in (0, 0.9, 1, 1.9, 2, 7.99, 8)] == [0, 0, 1, 1, 2, 4, 8]


@pytest.mark.parametrize("network", [_network(directions=5), _network(), _network(spread=True, convolves=True)])
def test_without_positions_the_recipe_has_its_own_importance_function(network):
    assert importance_for(network)[0] is None


@pytest.mark.parametrize(("side", "width"), [(5, 64), (65, 128), (128, 128), (3000, 512)])
def test_a_transformer_is_as_wide_as_the_widest_site(side, width):
    function = importance_for(_network(spread=True, shape=(side, 2)))[0]({"a": SiteShape(7, 2)})

    assert type(function).__name__ == "SiteTransformer"
    assert function.width == width
