"""Components of any sites in groups."""

import pytest
import torch

from spd_lightning import DecomposedModel, ToyModelOfSuperposition, UsageError
from spd_lightning.model import Grouping


def test_singletons_are_groups_of_one():
    grouping = Grouping.singletons({"a": 2, "b": 3})
    assert {site: label.tolist() for site, label in grouping.labels.items()} == {"a": [0, 1], "b": [2, 3, 4]}
    assert grouping.tables == {"a": "a", "b": "b"}
    assert [grouping.table_of(site) for site in "ab"] == ["a", "b"]
    assert grouping.members("b", 1) == {"b": [1]}


def test_a_site_by_itself_is_its_own_table():
    assert Grouping.singletons({"a": 2}).tables == {"a": "a"}
    assert Grouping.across(["a"], 2).tables == {"a": "a"}


def test_components_across_all_sites_have_one_table():
    grouping = Grouping.across(["a", "b", "c"], 3)
    assert grouping.tables == {"all sites": "a"}
    assert [grouping.table_of(site) for site in "abc"] == ["a", "a", "a"]
    assert grouping.members("c", 2) == {"a": [2], "b": [2], "c": [2]}


@pytest.fixture
def mixed():
    """Groups 0 and 1; ``a`` and ``c`` agree throughout, ``b`` has a group twice and components of no group."""
    labels = {"a": [0, 1], "b": [1, -1, 1, -1], "c": [0, 1], "d": [-1]}
    return Grouping({site: torch.tensor(label) for site, label in labels.items()}, one_importance=True)


def test_sites_that_agree_in_part_share_no_table(mixed):
    assert mixed.tables == {"a, c": "a", "b": "b", "d": "d"}
    assert [mixed.table_of(site) for site in "abcd"] == ["a", "b", "a", "d"]


def test_members_of_a_group_are_found_from_any_of_them(mixed):
    expected = {"a": [1], "b": [0, 2], "c": [1]}
    assert mixed.members("a", 1) == mixed.members("b", 0) == mixed.members("b", 2) == expected
    assert mixed.members("c", 0) == {"a": [0], "c": [0]}


def test_a_component_of_no_group_is_alone(mixed):
    assert mixed.members("b", 1) == {"b": [1]}
    assert mixed.members("b", 3) == {"b": [3]}
    assert mixed.members("d", 0) == {"d": [0]}


def test_sites_with_components_of_no_group_share_no_table():
    grouping = Grouping({"a": torch.tensor([0, -1]), "b": torch.tensor([0, -1])}, one_importance=True)
    assert grouping.members("a", 0) == {"a": [0], "b": [0]}
    assert grouping.members("a", 1) == {"a": [1]}
    assert [grouping.table_of(site) for site in "ab"] == ["a", "b"]
    assert grouping.tables == {"a": "a", "b": "b"}


def test_sites_whose_components_were_found_to_act_together_keep_their_tables():
    grouping = Grouping.of([{"a": [0], "b": [0]}, {"a": [1], "b": [1]}], {"a": 2, "b": 2})
    assert grouping.tables == {"a": "a", "b": "b"}
    assert grouping.members("b", 1) == {"a": [1], "b": [1]}


def test_groups_are_given_and_told_by_their_members():
    groups = [{"b": [2, 0]}, {"a": [1], "b": [1]}]
    grouping = Grouping.of(groups, {"a": 3, "b": 4})
    assert {site: label.tolist() for site, label in grouping.labels.items()} == {"a": [-1, 1, -1], "b": [0, 1, 0, -1]}
    assert grouping.groups == [{"b": [0, 2]}, {"a": [1], "b": [1]}]
    flat = grouping.flat().tolist()
    assert (flat[1], flat[3:6]) == (1, [0, 1, 0])
    assert len({flat[0], flat[2], flat[6], 0, 1}) == 5


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([{"a": [3]}], "there is no component a:3"),
        ([{"a": [-1]}], "there is no component a:-1"),
        ([{"c": [0]}], "there is no component c:0"),
        ([{"a": [0]}, {"a": [0]}], "a:0 is in two groups"),
    ],
)
def test_groups_of_what_is_not_there_are_refused(groups, message):
    with pytest.raises(UsageError, match=message):
        Grouping.of(groups, {"a": 3})


def test_a_model_ablates_the_groups_that_it_is_given():
    model = DecomposedModel(ToyModelOfSuperposition(3, 2), {"linear*": 4})
    x = torch.rand(5, 3)
    apart = model(x, {"linear1": [0], "linear2": [2, 3]})
    model.use_mechanisms(Grouping.of([{"linear1": [0], "linear2": [2, 3]}], model.sites))
    torch.testing.assert_close(model(x, {"linear1": [0]}), apart)
    assert not torch.allclose(model(x, {"linear1": [1]}), apart)


@pytest.mark.parametrize("counts", [{"linear1": 4}, {"linear1": 4, "linear2": 5}])
def test_groups_of_other_components_are_refused(counts):
    model = DecomposedModel(ToyModelOfSuperposition(3, 2), {"linear*": 4})
    with pytest.raises(UsageError, match="mechanisms: are of other components"):
        model.use_mechanisms(Grouping.of([], counts))
