"""On every network of the list: a component was last used when it was last important, at any position that counts."""

import pytest
import torch

from spd_lightning import Merging, UsageError
from spd_lightning.functional import ALIVE_THRESHOLD
from spd_lightning.losses import Noise, Step
from spd_lightning.methods.last_use import LastUse
from spd_lightning.model.wrapping import site_of
from tests.methods.tiny import features, fit, toy
from tests.networks.models import decomposed, randomised
from tests.networks.zoo import ZOO, example


@pytest.fixture(params=ZOO)
def step(request):
    """Of a network, all components silent."""
    model = randomised(decomposed(request.param))
    made = Step.of(model, example(request.param), Noise((0,), torch.device("cpu")))
    for importance in made.importance.values():
        importance.upper.data.fill_(0.9 * ALIVE_THRESHOLD)
    return made


def _positions(step, call):
    """Indices of those that count, and of those that do not."""
    upper = step.importance[call].upper
    weights = step.weights_of(upper)
    counted = torch.ones(upper.shape[:-1]) if weights is None else weights
    return torch.nonzero(counted > 0), torch.nonzero(counted <= 0)


def test_one_position_is_enough_and_padding_is_none(step):
    last = LastUse(step.model)
    call = list(step.importance)[-1]
    counted, padded = _positions(step, call)
    upper = step.importance[call].upper.data
    last.note(step, 7)
    assert not any(seen.any() for seen in last.before(0).values())

    upper[(*counted[-1].tolist(), 1)] = 1.1 * ALIVE_THRESHOLD
    for position in padded.tolist():
        upper[(*position, 0)] = 1.0
    last.note(step, 8)
    upper.fill_(0.0)
    last.note(step, 9)

    (owner,) = (sites[0] for sites in step.model.alike if site_of(call) in sites)
    before = last.before(8)
    assert list(before) == [sites[0] for sites in step.model.alike]
    assert [(site, c) for site, unused in before.items() for c, is_so in enumerate(unused) if not is_so] == [(owner, 1)]
    assert last.before(9)[owner][1]


def test_it_goes_on_from_what_was_kept_and_takes_what_is_not_known_for_used():
    last = LastUse(decomposed(next(iter(ZOO))))
    kept = torch.arange(len(last.steps))

    last.load(kept, 50)
    assert torch.equal(last.steps, kept)

    last.load(None, 50)
    assert not any(unused.any() for unused in last.before(50).values())

    with pytest.raises(UsageError, match="the checkpoint is damaged: it does not say when each component"):
        last.load(kept[1:], 50)


def test_a_checkpoint_says_nothing_while_nothing_is_merged(tmp_path):
    """Merging that begins in a run that goes on must not take all components for unused."""
    module, on = toy(), toy(merging=Merging(start=0.5))
    fit(module, features(), tmp_path, max_steps=3).save_checkpoint(tmp_path / "a.ckpt")
    on.on_load_checkpoint(torch.load(tmp_path / "a.ckpt", weights_only=True))
    assert not any(unused.any() for unused in on.last_use.before(3).values())
