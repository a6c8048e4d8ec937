"""Clusters of decompositions that are built from known mechanisms: the target's groups, or the docs say why not."""

import pytest
import torch

from spd_lightning import DecomposedModel, ImportanceFunction, ResidualMLP, ToyModelOfSuperposition
from spd_lightning.analysis import cluster, harvest
from spd_lightning.functional import adjusted_rand_index, keyed_generator, sparse_features
from spd_lightning.targets.induction import HandMadeInduction
from tests.analysis.test_clustering import firings_of

LOGIT = 3.0


class KnownImportance(ImportanceFunction):
    """Important is what the features that are present need: one component each, or a whole block.

    The first components of a site are those of its mechanisms; all others are never important. Features are read off
    the first site by its read vectors.
    """

    def __init__(self, sites, known, embedding):
        super().__init__(sites)
        self.known, self.embedding = known, embedding

    def reset(self, generator):
        """There is nothing to draw."""

    def forward(self, inner, features):
        first = next(iter(self.sites))
        present = (features[first] @ self.embedding).abs() > 1e-4
        logits = {}
        for site, known in self.known.items():
            chosen = present if known.kind == "identity" else present.any(-1, keepdim=True).expand(-1, known.count)
            logits[site] = torch.full((len(present), self.sites[site].n_components), -LOGIT)
            logits[site][:, : known.count][chosen] = LOGIT
        return logits


def _clustered(target, embedding, n_features, alpha=1.0, spare=3):
    """Clusters of a decomposition whose importances are the known ones, and the groups that are right."""
    known = target.known_mechanisms()
    sites = {name: one.count + spare for name, one in known.items()}
    model = DecomposedModel(target, sites, importance=lambda shapes: KnownImportance(shapes, known, embedding))
    batches = sparse_features(4000, n_features, 0.05, (0.1, 1.0), keyed_generator("truth")).split(1000)
    found = harvest(model, batches).firings
    truth = []
    for one in known.values():
        truth += [*range(one.count)] if one.kind == "identity" else ["block"] * one.count
        truth += ["dead"] * spare
    return cluster(found, alpha), truth


def _agreement(found, truth):
    kept = found.labels >= 0
    assert [label == "dead" for label in truth] == (~kept).tolist()
    names = sorted(map(str, set(truth)))
    return adjusted_rand_index(found.labels[kept], torch.tensor([names.index(str(label)) for label in truth])[kept])


@pytest.mark.parametrize(("features", "hidden", "layers"), [(5, 2, 1), (12, 4, 2)])
def test_features_and_identity_layers_of_a_toy_model_are_groups(features, hidden, layers):
    target = ToyModelOfSuperposition(features, hidden, n_identity_layers=layers)
    with torch.no_grad():
        target.linear1.weight.div_(target.linear1.weight.norm(dim=0))  # so that every feature is represented
    found, truth = _clustered(target, torch.eye(features), features)
    assert _agreement(found, truth) >= 0.95
    (block,) = [group for group in found.grouping.groups if "hidden_layers.0" in group]
    assert {site: len(members) for site, members in block.items()} == {
        f"hidden_layers.{layer}": hidden for layer in range(layers)
    }


@pytest.mark.parametrize(("layers", "alpha"), [(1, 2.0), (2, 1.0), (3, 1.0)])
def test_each_feature_is_a_group_across_layers_and_what_writes_is_another(layers, alpha):
    target = ResidualMLP(10, n_layers=layers, d_mlp=6, d_embed=40)
    found, truth = _clustered(target, torch.linalg.pinv(target.embedding), 10, alpha)
    assert _agreement(found, truth) >= 0.95
    groups = found.grouping.groups
    for feature in range(10):
        assert {f"layers.{layer}.mlp_in": [feature] for layer in range(layers)} in groups
    assert {f"layers.{layer}.mlp_out": list(range(6)) for layer in range(layers)} in groups


def test_single_components_beside_a_block_that_fires_often_need_a_larger_alpha():
    """With few groups their names are short, and every name that is saved makes all the block's firings cheaper."""
    target = ResidualMLP(10, n_layers=1, d_mlp=6, d_embed=40)
    found, truth = _clustered(target, torch.linalg.pinv(target.embedding), 10, alpha=1.0)
    assert _agreement(found, truth) < 0.95
    merged = [group["layers.0.mlp_in"] for group in found.grouping.groups if "layers.0.mlp_in" in group]
    assert all(len(features) == 2 for features in merged)


@pytest.mark.parametrize("by_example", [False, True])
def test_terms_of_a_head_do_not_come_together(by_example):
    """They act at different positions and for different tokens, and firings are all that clusters see."""
    known = HandMadeInduction(vocabulary=4, length=7).known_mechanisms()
    needed = torch.cat([one.terms.needed for one in known.values()], -1)
    table = needed.any(1) if by_example else needed.flatten(0, 1)
    heads = torch.tensor([head for one in known.values() for head in one.terms.groups])
    found = cluster(firings_of(table, {name: one.count for name, one in known.items()}))
    assert adjusted_rand_index(found.labels, heads) < 0.2
    if not by_example:
        for group in found.grouping.groups:
            assert not {"layers.0.q", "layers.0.k"} <= set(group)
            assert not {"layers.1.q", "layers.1.k"} <= set(group)
