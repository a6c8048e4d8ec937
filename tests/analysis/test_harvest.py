"""A harvest against the same numbers looked up one by one, on networks of every shape."""

import pytest
import torch

from spd_lightning import UsageError
from spd_lightning.analysis import harvest
from spd_lightning.analysis.firings import FiringSample
from spd_lightning.analysis.harvest import options
from spd_lightning.analysis.harvest_rows import rows
from spd_lightning.analysis.harvest_tally import Tally
from spd_lightning.model.wrapping import site_of
from tests.analysis.test_firings import table_of
from tests.model.attributed import toy
from tests.networks.models import decomposed, randomised
from tests.networks.zoo import ZOO, example

THRESHOLD = 0.3


def _model(name):
    return randomised(decomposed(name))


def _looked_up(model, batches):
    """Importance, inner activation, example and position of every position that counts, by site call."""
    found, first = {}, 0
    for batch in batches:
        clean = model.clean(batch)
        for call, importance in model.importance(clean).items():
            inner = model.components[site_of(call)].inner(clean.site_inputs[call])
            leading = importance.lower.shape[:-1]
            weight = clean.weights.raw(leading) if clean.weights.values is not None else torch.ones(leading)
            for place in torch.cartesian_prod(*map(torch.arange, leading)).reshape(-1, len(leading)).tolist():
                position = 0
                for index, size in zip(place[1:], leading[1:], strict=True):
                    position = position * size + index
                if weight[tuple(place)] > 0:
                    entry = importance.lower[tuple(place)].float(), inner[tuple(place)].float()
                    found.setdefault(call, []).append((*entry, first + place[0], position))
        first += len(importance.lower)
    return found


@pytest.mark.parametrize("name", ZOO)
@torch.no_grad()
def test_every_number_is_that_of_single_positions(name):
    model, batches = _model(name), [example(name, seed) for seed in range(2)]
    found = harvest(model, batches, options(threshold=THRESHOLD, places=4))
    expected = _looked_up(model, batches)
    assert list(found.calls) == list(model.clean(batches[0]).site_inputs)
    assert found.batches == 2
    for call, one in found.calls.items():
        importance, inner, examples, positions = (
            torch.stack([torch.as_tensor(part) for part in parts]) for parts in zip(*expected[call], strict=True)
        )
        fires = importance > THRESHOLD
        assert one.positions == len(importance)
        assert torch.equal(one.firings, fires.sum(0))
        torch.testing.assert_close(one.density, fires.float().mean(0))
        torch.testing.assert_close(one.mean_importance, importance.mean(0))
        for component in range(len(one.firings)):
            values = importance[:, component]
            bins = [int(((values * 20).floor().clamp(0, 19) == number).sum()) for number in range(20)]
            assert one.histogram[component].tolist() == bins
            fired = inner[fires[:, component], component]
            if len(fired):
                assert one.positive[component].item() == pytest.approx((fired > 0).float().mean().item())
                assert one.rms_inner[component].item() == pytest.approx(fired.square().mean().sqrt().item(), rel=1e-4)
            strongest = _strongest(importance[:, component], inner[:, component], examples, positions)
            kept = one.places[(one.places.components == component).nonzero()[:, 0]]
            assert kept.scores.tolist() == pytest.approx([score for score, *_ in strongest], rel=1e-4)
            assert kept.examples.tolist() == [place for _, place, _ in strongest]
            assert kept.positions.tolist() == [position for *_, position in strongest]


def _strongest(importance, inner, examples, positions):
    """Of every example its strongest place, and of these four, for one component."""
    best = {}
    for g, h, place, position in zip(*(x.tolist() for x in (importance, inner, examples, positions)), strict=True):
        if g > THRESHOLD and g * abs(h) > best.get(place, (-1,))[0]:
            best[place] = (g * abs(h), place, position)
    return sorted(best.values(), key=lambda entry: (-entry[0], entry[1]))[:4]


@pytest.mark.parametrize("name", ["pooled head", "shared layer", "cnn", "gpt2", "padded dictionary"])
@torch.no_grad()
def test_firings_are_taken_where_all_sites_have_places_in_common(name):
    model, batches = _model(name), [example(name, seed) for seed in range(2)]
    found = harvest(model, batches, options(threshold=THRESHOLD)).firings
    by_example = name in ("pooled head", "cnn")
    expected = []
    for batch in batches:
        weights, importance = model.clean(batch).weights, model.importance_of(batch)
        sites = dict.fromkeys(map(site_of, importance))
        for site in sites:
            calls = [one.lower > THRESHOLD for call, one in importance.items() if site_of(call) == site]
            sites[site] = torch.stack(calls).any(0)
            if by_example:
                sites[site] = sites[site].flatten(1, -2).any(1) if sites[site].dim() > 2 else sites[site]
        table = torch.cat([fires.reshape(-1, fires.shape[-1]) for fires in sites.values()], 1)
        expected.append(table if weights.values is None else table[weights.values.flatten() > 0])
    assert torch.equal(table_of(found), torch.cat(expected))
    assert found.counts == {site: parts.n_components for site, parts in model.components.items()}


BOUNDARY = 0


def _text(seed):
    """Tokens with padding; the first is the one between documents."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, 11, (4, 5), generator=generator)
    ids[::2, 2] = BOUNDARY
    mask = torch.arange(5) < torch.tensor([5, 3, 4, 5])[:, None]
    return {"input_ids": ids, "attention_mask": mask.long()}


@pytest.fixture
def language():
    """A model of tokens, three batches, and their harvest."""
    model, batches = _model("padded dictionary"), [_text(seed) for seed in range(3)]
    return model, batches, harvest(model, batches, options(threshold=THRESHOLD, reach=2, places=3), BOUNDARY)


@torch.no_grad()
def test_tokens_are_counted_on_and_after_positions_of_weight(language):
    model, batches, found = language
    for call, one in found.calls.items():
        pairs = {"on": [], "before": []}
        for batch in batches:
            fires = model.importance_of(batch)[call].lower > THRESHOLD
            ids, mask = batch["input_ids"], batch["attention_mask"]
            for row, at in torch.cartesian_prod(torch.arange(4), torch.arange(5)).tolist():
                if mask[row, at]:
                    pairs["on"].append((fires[row, at], ids[row, at]))
                    if at < 4 and mask[row, at + 1]:
                        pairs["before"].append((fires[row, at], ids[row, at + 1]))
        for side, counts in (("on", one.on), ("before", one.before)):
            fires, tokens = (torch.stack(parts) for parts in zip(*pairs[side], strict=True))
            assert counts.positions == len(tokens)
            expected = torch.zeros(fires.shape[1], 11).index_add(1, tokens, fires.T.float())
            tensors = counts.tensors()
            table = torch.zeros(fires.shape[1], 11)
            table[tensors["pairs"] >> 32, tensors["pairs"] % (1 << 32)] = tensors["together"].float()
            assert torch.equal(table, expected)


@torch.no_grad()
def test_windows_are_of_distinct_documents_and_end_with_their_example(language):
    model, batches, found = language
    ids = torch.cat([batch["input_ids"] for batch in batches])
    documents = (ids == BOUNDARY).flatten().cumsum(0).reshape(ids.shape)
    for call, one in found.calls.items():
        lower = torch.cat([model.importance_of(batch)[call].lower for batch in batches])
        places = one.places
        pairs = list(zip(places.components.tolist(), places.documents.tolist(), strict=True))
        assert len(set(pairs)) == len(pairs)
        for index in range(len(places)):
            example_, position = int(places.examples[index]), int(places.positions[index])
            component = int(places.components[index])
            assert places.documents[index] == documents[example_, position]
            for offset, token, importance in zip(
                range(-2, 3), places.tokens[index].tolist(), places.importances[index].tolist(), strict=True
            ):
                at = position + offset
                assert token == (int(ids[example_, at]) if 0 <= at < 5 else -1)
                expected = lower[example_, at, component].item() if 0 <= at < 5 else 0.0
                assert importance == pytest.approx(expected, abs=1e-3)


def test_rows_are_plain_data_of_components_that_are_important(language):
    *_, found = language
    decode = {index: f"<{index}>" for index in range(11)}
    written = list(rows(found, lambda tokens: "".join(decode[token] for token in tokens)))
    alive = [(call, c) for call, one in found.calls.items() for c in one.firings.nonzero()[:, 0].tolist()]
    assert [(row["call"], row["component"]) for row in written] == alive
    for row in written:
        assert 0 < len(row["places"]) <= 3
        for place in row["places"]:
            assert place["left"] + place["token"] + place["right"] == "".join(map(decode.get, place["tokens"]))
            assert place["texts"] == list(map(decode.get, place["tokens"]))
            assert place["texts"][place["at"]] == place["token"]
            assert len(place["importances"]) == len(place["tokens"])
        one = found.calls[row["call"]]
        assert row["histogram"] == one.histogram[row["component"]].tolist()
        for other in row["together"]:
            own, theirs = (
                table_of(found.firings)[:, found.firings.number_of(site, component)]
                for site, component in ((site_of(row["call"]), row["component"]), (other["site"], other["component"]))
            )
            assert other["share"] == pytest.approx((own & theirs).sum().item() / own.sum().item(), rel=1e-3)
            assert other["jaccard"] == pytest.approx(
                (own & theirs).sum().item() / (own | theirs).sum().item(), rel=1e-3
            )
        assert [token["text"] for token in row["on"]] == [f"<{token['token']}>" for token in row["on"]]
        best = found.calls[row["call"]].on.reading()
        assert row["on"][0]["token"] == best.tokens[row["component"]]
        assert row["on"][0]["pmi"] == pytest.approx(best.pmi[row["component"]].item(), rel=1e-3)


@pytest.mark.parametrize("name", ["gpt2", "cnn", "shared layer"])
@pytest.mark.parametrize("stopped", [1, 2])
def test_one_that_is_gone_on_with_is_the_same(name, stopped):
    model, batches = _model(name), [example(name, seed) for seed in range(4)]
    chosen = options(threshold=THRESHOLD, units=7)
    whole = Tally(model, chosen, BOUNDARY)
    harvest(model, batches, tally=whole)
    part = Tally(model, chosen, BOUNDARY)
    harvest(model, batches[:stopped], tally=part)
    again = Tally.of(part.notes(), part.tensors())
    harvest(model, batches, tally=again)
    assert again.notes() == whole.notes()
    expected = whole.tensors()
    assert list(again.tensors()) == list(expected)
    assert all(torch.equal(tensor, expected[key]) for key, tensor in again.tensors().items())


def test_batches_may_be_limited():
    model, batches = _model("gpt2"), [example("gpt2", seed) for seed in range(4)]
    assert harvest(model, batches, options(batches=3)).batches == 3


def test_a_sample_stays_small_and_is_spread_over_the_data():
    sample = FiringSample({"a": 2}, most=100)
    for first in range(0, 5000, 50):
        odd = torch.arange(first, first + 50) % 2 == 1
        sample.update({"a": torch.stack([odd, ~odd], 1)}, torch.ones(50, dtype=torch.bool), first)
    found, kept = sample.firings(), sample.tensors()["kept"]
    assert 50 <= found.n_units == len(kept) <= 100
    assert torch.equal(table_of(found), torch.stack([kept % 2 == 1, kept % 2 == 0], 1))
    assert (kept.diff() > 0).all()
    assert (kept // 500).bincount(minlength=10).min() >= found.n_units / 20


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"threshold": 1.5}, r"harvest: threshold must lie in \[0, 1\]"),
        ({"places": 0}, "harvest: places must be at least 1"),
        ({"reach": -1}, "harvest: reach must be at least 0"),
        ({"units": 0}, "harvest: units must be at least 1"),
        ({"batches": 0}, "harvest: batches must be at least 1"),
    ],
)
def test_options_outside_their_range_are_refused(given, message):
    with pytest.raises(UsageError, match=message):
        options(**given)


def test_data_without_batches_is_refused():
    with pytest.raises(UsageError, match="harvest: the data holds no batches"):
        harvest(_model("gpt2"), [])


def test_the_older_method_is_refused():
    with pytest.raises(UsageError, match="the older method has none"):
        harvest(toy(), [])
