"""Which importances are drawn, how many, in which order."""

import functools

import pytest
import torch

from spd_lightning import AttributionDecomposition, GateMLP, PerSite, ResidualMLP, StochasticDecomposition, UsageError
from spd_lightning.callbacks import ImportanceHeatmaps, importance_heatmaps
from tests.callbacks.perfect import Rows

PROBE = 0.75


@pytest.fixture
def drawn(noted):
    """Arguments of every picture that is drawn."""
    return noted(importance_heatmaps, "importance_heatmap")


@torch.no_grad()
def by_hand(logits, rows):
    """A residual MLP of one layer whose gates answer with given numbers, ``[n_features, C]`` per site."""
    target = ResidualMLP(rows, d_mlp=rows, d_embed=rows)
    target.embedding.copy_(torch.eye(rows))
    target.layers[0].mlp_in.weight.copy_(torch.eye(rows))
    sites = {f"layers.0.{name}": table.shape[1] for name, table in logits.items()}
    module = StochasticDecomposition(
        target,
        sites,
        importance=functools.partial(PerSite, function=functools.partial(GateMLP, hidden=[])),
        leak="linear",
    )
    module.setup("test")  # draws the start now, so that no trainer draws it over what follows
    for name, table in logits.items():
        parts, gate = (
            module.model.components[f"layers.0.{name}"],
            module.model.importance_function.functions[f"layers.0.{name}"],
        )
        parts.V.copy_(table / PROBE)  # what reaches either site on the probe of feature i is 0.75 at i
        gate.weights[0].fill_(1.0)
        gate.biases[0].zero_()
    return module


def show(run, module, **options):
    run(
        module, Rows([torch.rand(4, module.target.n_features)], module.target.n_features), ImportanceHeatmaps(**options)
    )


LOGITS = {
    "mlp_in": torch.tensor([[0.0, 1.5, 0.2], [0.9, -1.0, 0.0]]),
    "mlp_out": torch.tensor([[0.3, 0.0, 0.6], [0.6, 0.7, 0.9]]),
}


def test_a_dense_site_is_ordered_by_mass_the_others_by_matching(run, drawn):
    show(run, by_hand(LOGITS, 2))

    ((tables, shown, _),) = drawn
    torch.testing.assert_close(tables["layers.0.mlp_in"], torch.tensor([[0.0, 1.0, 0.2], [0.9, -0.01, 0.0]]))
    torch.testing.assert_close(tables["layers.0.mlp_out"], torch.tensor([[0.3, 0.0, 0.6], [0.6, 0.7, 0.9]]))
    assert shown == {"layers.0.mlp_in": [1, 0, 2], "layers.0.mlp_out": [2, 0, 1]}


def test_the_penalised_importances_are_drawn_in_the_order_of_the_others(run, drawn):
    show(run, by_hand(LOGITS, 2), sigmoid="upper")

    tables = drawn[0][0]
    assert list(tables) == ["layers.0.mlp_in, upper-leaky", "layers.0.mlp_out, upper-leaky"]
    expected = torch.tensor([[0.0, 1.005, 0.2], [0.9, 0.0, 0.0]])
    torch.testing.assert_close(tables["layers.0.mlp_in, upper-leaky"], expected)
    assert drawn[0][1]["layers.0.mlp_in, upper-leaky"] == [1, 0, 2]


def test_both_stand_side_by_side(run, drawn):
    show(run, by_hand(LOGITS, 2), sigmoid="both")

    tables, shown, _ = drawn[0]
    sites = ("layers.0.mlp_in", "layers.0.mlp_out")
    assert list(tables) == [f"{site}, {sigmoid}-leaky" for site in sites for sigmoid in ("lower", "upper")]
    assert set(shown) == set(tables)
    assert tables["layers.0.mlp_in, lower-leaky"][1, 1] == pytest.approx(-0.01)
    assert tables["layers.0.mlp_in, upper-leaky"][0, 1] == pytest.approx(1.005)


def test_alive_components_are_drawn_and_no_others(run, drawn):
    table = torch.zeros(2, 50)
    table[0, 5], table[1, 7] = 1.0, 1.0
    table[0, 8:40] = 0.05  # idle, but of a larger sum than what is alive
    table[1, 8:40] = 0.09
    table[0, 45] = 0.11
    show(run, by_hand({"mlp_in": table, "mlp_out": table[:, :20]}, 2))

    assert drawn[0][1] == {"layers.0.mlp_in": [5, 7, 45], "layers.0.mlp_out": [5, 7]}


def test_the_threshold_says_what_is_alive(run, drawn):
    show(run, by_hand(LOGITS, 2), threshold=0.65)

    assert drawn[0][1] == {"layers.0.mlp_in": [1, 0], "layers.0.mlp_out": [2, 1]}


def test_another_sigmoid_is_refused():
    with pytest.raises(UsageError, match=r"^sigmoid must be one of 'lower', 'upper', 'both', got 'middle'$"):
        ImportanceHeatmaps(sigmoid="middle")


def test_components_that_span_all_sites_get_one_panel_named_for_what_it_shows(run, drawn):
    torch.manual_seed(0)
    target = ResidualMLP(3, d_mlp=2, d_embed=5)
    module = AttributionDecomposition(target, ["layers.*.mlp_*"], 4, 1.0)
    show(run, module)
    ((tables, _, quantity),) = drawn
    (shown,) = tables.values()
    assert quantity == "attribution over the largest"
    assert shown.amax(1).tolist() == [1.0] * 3
