"""Circuits that share neurons."""

import pytest
import torch

from spd_lightning import UsageError
from spd_lightning.targets import PingPong


def test_each_circuit_answers_to_its_own_input_alone():
    target = PingPong()

    torch.testing.assert_close(target(0.75 * torch.eye(64)), 0.75 * torch.eye(64))


def test_two_circuits_that_share_no_group_make_ghosts_where_their_groups_cross():
    target = PingPong(n_circuits=9, group=3, width=5)
    x = torch.zeros(9)
    x[0], x[4] = 1.0, 0.5  # circuits (0, 0) and (1, 1)

    assert target(x).tolist() == pytest.approx([1, 0.5, 0, 0.5, 0.5, 0, 0, 0, 0])


@pytest.mark.parametrize("sizes", [(64, 8, 21), (9, 3, 3), (5, 3, 7)])
def test_terms_add_up_to_the_weights_and_share_neurons(sizes):
    target = PingPong(*sizes)

    for name, known in target.known_mechanisms().items():
        terms = known.terms
        torch.testing.assert_close(terms.write.T @ terms.read, getattr(target, name).weight)
        assert known.count == sizes[0]
        assert len(terms.write.unique(dim=0)) == len({*target.members[name].tolist()}) < sizes[0]


def test_a_term_is_needed_on_its_own_input_alone():
    target = PingPong(n_circuits=9, group=3, width=5)
    x, terms = torch.eye(9), target.known_mechanisms()["ping"].terms
    whole = target(x)
    for circuit in range(9):
        with torch.no_grad():
            target.ping.weight.sub_(torch.outer(terms.write[circuit], terms.read[circuit]))
        changed = (target(x) != whole).any(1)
        assert changed.tolist() == terms.needed[:, circuit].tolist()
        target.reset_parameters()


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ((65, 8, 21), "n_circuits must be at most group squared, 64, got 65"),
        ((64, 8, 7), "width must be at least group, 8, got 7"),
        ((4, 1, 4), "group must be at least 2, got 1"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes, said):
    with pytest.raises(UsageError, match=said):
        PingPong(*sizes)
