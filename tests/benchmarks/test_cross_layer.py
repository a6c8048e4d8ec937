"""What a later layer reads of an earlier one, on weights chosen by hand."""

import pytest
import torch

from benchmarks.cross_layer import readings, rows
from spd_lightning.targets import ResidualMLP


@pytest.fixture
def target():
    """Two features, two neurons per layer; layer 0 doubles feature 0 and halves feature 1, layer 1 reads both."""
    network = ResidualMLP(2, n_layers=2, d_mlp=2, d_embed=2)
    with torch.no_grad():
        network.embedding.copy_(torch.eye(2))
        first, second = (layer for layer in network.layers)
        first.mlp_in.weight.copy_(torch.eye(2))
        first.mlp_out.weight.copy_(torch.diag(torch.tensor([1.0, -0.5])))
        second.mlp_in.weight.copy_(torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
        second.mlp_out.weight.copy_(torch.tensor([[2.0, 1.0], [0.0, 1.0]]))
    return network


def test_a_first_layer_reads_nothing_that_was_written_before(target):
    first, _ = readings(target)

    assert (first.weakest, first.median) == (0.0, 0.0)  # feature 1 comes back with a minus sign
    assert first.own == pytest.approx(0.75)
    assert first.written == 0


def test_a_second_layer_reads_what_the_first_one_wrote(target):
    _, second = readings(target)

    # probes write (0.75, 0) and (0, -0.375); only the first coordinate is read, by both neurons
    assert second.singular == pytest.approx([0.75 * 2**0.5, 0.0], abs=1e-6)
    assert (second.own, second.written) == pytest.approx((0.0, 0.0))  # lower median of two features
    assert second.weakest == 0


def test_one_row_per_layer(target):
    lines = rows("tiny", list(readings(target)))

    assert [line.split("|")[1:3] for line in lines] == [[" tiny ", " 0 "], [" tiny ", " 1 "]]
    assert lines[1].endswith("| 1.06, 0.00 |")
