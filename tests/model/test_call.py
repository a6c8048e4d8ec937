"""From a batch to the target's arguments, and from what it returns to its output."""

from collections import OrderedDict, namedtuple

import pytest
import torch
from torch import nn

from spd_lightning import UsageError
from spd_lightning.functional.sampling import WeightedBatch
from spd_lightning.model.call import AutomaticCall, KeywordCall, PositionalCall, TargetCall, rows_of

X, Y, Z = torch.rand(3, 4), torch.rand(3, 2), torch.tensor([1.0, 0.0, 1.0])


class Takes(nn.Module):
    """A target whose forward has the names that a test wants."""

    def __init__(self, forward):
        super().__init__()
        self.forward = forward


def _bound(forward):
    call = AutomaticCall()
    call.bind(Takes(forward))
    return call


def _refused(said, function, *given):
    with pytest.raises(UsageError) as refusal:
        function(*given)
    assert str(refusal.value) == said


def _assert_no_weights(arguments):
    assert arguments.weights.values is None


# ---- by position


@pytest.mark.parametrize("batch", [X, [X], (X, Y), [X, Y, Z]])
def test_by_default_the_target_gets_the_first_part(batch):
    arguments = PositionalCall().arguments(batch)
    assert arguments.args == (X,)
    assert arguments.kwargs == {}
    _assert_no_weights(arguments)


def test_parts_by_number_in_order_and_weights():
    arguments = PositionalCall(inputs=[1, 0], weights=2).arguments((X, Y, Z))
    assert all(one is other for one, other in zip(arguments.args, (Y, X), strict=True))
    assert arguments.weights.values is Z
    assert not arguments.weights.normalised
    torch.testing.assert_close(arguments.weights.of(torch.Size([3])), torch.tensor([0.5, 0.0, 0.5]))


def test_a_weighted_batch_brings_weights_that_sum_to_one():
    for call in (PositionalCall(), AutomaticCall()):
        arguments = call.arguments(WeightedBatch(X, Z / 4))
        assert arguments.args == (X,)
        assert arguments.weights.normalised
        assert torch.equal(arguments.weights.of(torch.Size([3])), Z / 4)


def test_refusals_by_position():
    _refused("call: inputs name part 1 of a batch that has 1; name others", PositionalCall([1]).arguments, X)
    _refused("call: inputs name part 2 of a batch that has 2; name others", PositionalCall([0, 2]).arguments, (X, Y))
    _refused("call: inputs name part 3 of a batch that has 2; name others", PositionalCall([0], 3).arguments, (X, Y))
    _refused(
        "call: the batch is a mapping with 'x', 'y'; use KeywordCall with inputs: [...]",
        PositionalCall().arguments,
        {"x": X, "y": Y},
    )
    _refused("call: inputs must be a list, got '0'", PositionalCall, "0")
    _refused("call: inputs, weights and labels: each must be at least 0, got -1", PositionalCall, [0, -1])
    _refused("call: inputs, weights and labels: each must be a whole number, got True", PositionalCall, [0], True)


# ---- by keyword


def test_entries_by_key_with_constants_and_weights():
    call = KeywordCall(["input_ids", "attention_mask"], weights="attention_mask", constants={"use_cache": False})
    arguments = call.arguments(OrderedDict(input_ids=X, attention_mask=Z, labels=Y))
    assert arguments.args == ()
    assert arguments.kwargs == {"input_ids": X, "attention_mask": Z, "use_cache": False}
    assert arguments.weights.values is Z
    _assert_no_weights(KeywordCall(["input_ids"]).arguments({"input_ids": X}))


def test_refusals_by_keyword():
    _refused(
        "call: inputs or weights name 'ids', but the batch holds 'x', 'y'",
        KeywordCall(["x", "ids"]).arguments,
        {"x": X, "y": Y},
    )
    _refused(
        "call: inputs or weights name 'mask', but the batch holds nothing",
        KeywordCall([], weights="mask").arguments,
        {},
    )
    takes = "call: KeywordCall takes batches that are mappings, got "
    _refused(takes + "a Tensor; use PositionalCall", KeywordCall(["x"]).arguments, X)
    _refused(takes + "a tuple of 2; use PositionalCall", KeywordCall(["x"]).arguments, (X, Y))
    _refused("call: inputs must be a list, got 'x'", KeywordCall, "x")


# ---- automatically


@pytest.mark.parametrize("batch", [X, [X, Y], (X,)])
def test_without_names_it_is_the_first_part(batch):
    arguments = _bound(lambda x: x).arguments(batch)
    assert arguments.args == (X,)
    _assert_no_weights(arguments)


def test_of_a_mapping_the_target_gets_what_its_forward_names_and_never_labels():
    batch = {"input_ids": X, "attention_mask": Z, "labels": Y, "idx": Y}
    arguments = _bound(lambda input_ids, attention_mask=None, labels=None: None).arguments(batch)
    assert arguments.kwargs == {"input_ids": X, "attention_mask": Z}
    assert arguments.weights.values is Z


def test_a_mask_weighs_positions_whether_the_target_takes_it_or_not():
    arguments = _bound(lambda input_ids: None).arguments({"input_ids": X, "attention_mask": Z})
    assert list(arguments.kwargs) == ["input_ids"]
    assert arguments.weights.values is Z


def test_a_mask_of_what_sees_what_weighs_nothing():
    batch = {"x": X, "attention_mask": torch.ones(3, 1, 4, 4)}
    _assert_no_weights(_bound(lambda x, attention_mask: None).arguments(batch))


def test_a_forward_that_takes_anything_gets_everything_but_labels():
    batch = {"a": X, "b": Y, "label": Z}
    assert list(_bound(lambda **anything: None).arguments(batch).kwargs) == ["a", "b"]
    assert list(_bound(lambda a, b=None, **anything: None).arguments(batch | {"c": X}).kwargs) == ["a", "b"]


def test_a_mapping_of_which_the_target_takes_nothing():
    said = "call: the target takes none of the batch's 'pixels', 'labels'; say which with KeywordCall"
    _refused(said, _bound(lambda x: None).arguments, {"pixels": X, "labels": Y})
    _refused(
        "call: the target takes none of the batch's nothing; say which with KeywordCall",
        _bound(lambda x: None).arguments,
        {},
    )


# ---- the output

Named = namedtuple("Named", ["hidden", "logits"])


def test_one_tensor_is_the_output():
    for call in (PositionalCall(), KeywordCall(["x"]), AutomaticCall()):
        assert call.chosen(X) is X


@pytest.mark.parametrize(
    ("output", "returned"),
    [
        ("logits", {"hidden": Y, "logits": X}),
        ("logits", Named(Y, X)),
        (1, Named(Y, X)),
        (-1, (Y, X)),
        (0, [X, Y]),
    ],
)
def test_a_part_by_name_or_number(output, returned):
    assert PositionalCall(output=output).chosen(returned) is X
    assert KeywordCall(["x"], output=output).chosen(returned) is X


def test_automatically_logits_are_the_output():
    assert AutomaticCall().chosen({"hidden": Y, "logits": X}) is X


@pytest.mark.parametrize(
    ("output", "returned", "described"),
    [
        ("logit", {"hidden": Y, "logits": X}, "a dict with 'hidden', 'logits'"),
        ("logits", (X, Y), "a tuple of 2"),
        (2, (X, Y), "a tuple of 2"),
        (-3, [X, Y], "a list of 2"),
        (0, {"logits": X}, "a dict with 'logits'"),
        ("logits", X, "a Tensor"),
    ],
)
def test_parts_that_are_not_there(output, returned, described):
    said = f"call: output is {output!r}, but the target returns {described}; name another one"
    _refused(said, PositionalCall(output=output).chosen, returned)


@pytest.mark.parametrize(
    ("returned", "described"),
    [
        ((X, Y), "a tuple of 2"),
        ({"hidden": X}, "a dict with 'hidden'"),
        (None, "a NoneType"),
        (3.0, "a float"),
    ],
)
def test_outputs_that_are_no_tensor(returned, described):
    said = f"target: its output must be one tensor, got {described}; choose one with model.call's output"
    for call in (PositionalCall(), AutomaticCall()):
        _refused(said, call.chosen, returned)


def test_outputs_that_are_no_floating_point_numbers():
    said = "target: its output must be floating-point numbers, got torch.int64; choose another one"
    _refused(said, AutomaticCall().chosen, torch.tensor([1, 2]))
    _refused(said, PositionalCall(output=0).chosen, (torch.tensor([1, 2]), X))


@pytest.mark.parametrize("output", [True, 1.5, ["logits"]])
def test_an_output_is_named_or_numbered(output):
    _refused(f"call: output must be a name, an index or null, got {output!r}", PositionalCall, None, None, output)


# ---- a way of one's own, and the number of rows


def test_a_way_of_ones_own():
    class Halves(TargetCall):
        def arguments(self, batch):
            return PositionalCall().arguments(batch)._replace(args=(batch / 2,))

    call = Halves(output=0)
    call.bind(nn.Identity())
    assert torch.equal(call.arguments(X).args[0], X / 2)
    assert call.chosen((X,)) is X


@pytest.mark.parametrize(
    ("batch", "rows"),
    [
        (X, 3),
        ((X, Y), 3),
        ({"a": "text", "b": torch.tensor(1.0), "c": X}, 3),
        (WeightedBatch(X[:2], Z[:2]), 2),
        ([], None),
        ({"a": 1}, None),
    ],
)
def test_rows_are_those_of_the_first_tensor(batch, rows):
    assert rows_of(batch) == rows


# ---- labels

CLASSES = torch.tensor([2, 0, 1])


@pytest.mark.parametrize(
    "batch",
    [(X, CLASSES), [X, CLASSES], {"x": X, "labels": CLASSES}, {"x": X, "label": CLASSES.int()}],
    ids=["pair", "list", "labels", "label"],
)
def test_whole_numbers_beside_the_input_are_labels(batch):
    assert torch.equal(_bound(lambda x: x).labels_of(batch).long(), CLASSES)


@pytest.mark.parametrize(
    "batch",
    [X, (X,), (X, Y), (X, CLASSES > 0), (X, CLASSES, Y), {"x": X, "labels": CLASSES[None]}, {"x": X, "labels": "a"}],
)
def test_anything_else_is_no_label(batch):
    assert _bound(lambda x: x).labels_of(batch) is None


def test_labels_that_are_named():
    assert torch.equal(PositionalCall(labels=2).labels_of((X, Y, CLASSES)), CLASSES)
    assert PositionalCall(labels=2).labels_of((X, Y)) is None
    assert torch.equal(KeywordCall(["x"], labels="next").labels_of({"x": X, "next": CLASSES[None]}), CLASSES[None])
    assert KeywordCall(["x"]).labels_of({"x": X, "labels": CLASSES}) is None


def test_labels_of_a_language_model_stand_one_position_ahead():
    tokens = torch.tensor([[5, 6, 7, 8], [9, 3, 0, 0]])
    seen = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    batch = {"input_ids": tokens, "attention_mask": seen}
    found = KeywordCall(["input_ids"], weights="attention_mask", labels="input_ids", ahead=1).labels_of(batch)
    assert found.tolist() == [[6, 7, 8, -100], [3, -100, -100, -100]]
    unweighed = KeywordCall(["input_ids"], labels="input_ids", ahead=5).labels_of(batch)
    assert unweighed.tolist() == [[-100] * 4] * 2
    _refused("call: ahead must be at least 0, got -1", KeywordCall, ["x"], None, None, None, "x", -1)
