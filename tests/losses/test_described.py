"""Every term is told in full: a checkpoint, or a config that is written, makes the same one again."""

import inspect

import pytest

from spd_lightning import losses
from spd_lightning.files.describe import describe, rebuilt
from spd_lightning.losses import Loss

NEEDED = {"of": ["*"]}
TERMS = [
    one
    for one in vars(losses).values()
    if inspect.isclass(one) and issubclass(one, Loss) and not inspect.isabstract(one)
]


def _parameters(kind):
    return inspect.signature(kind).parameters.values()


@pytest.mark.parametrize("kind", TERMS, ids=lambda kind: kind.__name__)
def test_every_argument_of_a_term_is_told(kind):
    needed = {one.name: NEEDED.get(one.name, 0.5) for one in _parameters(kind) if one.default is one.empty}
    # a value that is not the default, so that one that is forgotten shows
    numbers = {one.name: 0.75 * one.default for one in _parameters(kind) if isinstance(one.default, float)}
    given = needed | {name: value for name, value in numbers.items() if value}
    if kind is losses.ConstrainedImportance:
        given["cliff_points"] = [(0.5, 9.0), (1.0, 3.0)]

    told = describe(kind(**given))

    assert told["init_args"].keys() == {one.name for one in _parameters(kind)}
    assert told["init_args"].items() >= {k: v for k, v in given.items() if isinstance(v, float)}.items()
    assert describe(rebuilt(told, Loss, "term")) == told
