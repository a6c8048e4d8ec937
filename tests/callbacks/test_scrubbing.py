"""Random halves of the components are ablated: errors against what they must be for decompositions set by hand."""

from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
import torch.multiprocessing
from torch import distributed, nn

from spd_lightning import AttributionDecomposition, StochasticDecomposition, ToyModelOfSuperposition, UsageError
from spd_lightning.callbacks import ScrubbingTest, scrubbing
from spd_lightning.functional import keyed_generator
from spd_lightning.losses import Noise
from spd_lightning.losses.sharing import sum_over_processes
from spd_lightning.methods import Decomposition
from spd_lightning.model import SiteMask
from tests.callbacks.perfect import GAIN, Rows, Unprobed, perfect_decomposition
from tests.methods.tiny import OwnNetwork, features, fit, toy, trained_state

CPU = torch.device("cpu")
SITES = ("linear1", "linear2")
LOST = 0.75**2 / 3
"""Error of a probe whose feature does not come through, mean over three outputs."""


@torch.no_grad()
def perfect_attribution(k=1.0) -> AttributionDecomposition:
    """The 3-3 identity, one component per feature that spans both layers, and one idle component."""
    target = ToyModelOfSuperposition(3, 3, zero_bias=True)
    target.linear1.weight.copy_(torch.eye(3))
    module = AttributionDecomposition(target, list(SITES), 4, k=k, rank=1)
    Decomposition.setup(module, "test")  # draws the start now, so that no trainer draws it over what follows
    for parts in module.model.components.values():
        parts.V.copy_(torch.eye(3, 4)[..., None])
        parts.U.copy_(torch.eye(4, 3)[:, None])
    return module


MAKERS = {"spd": lambda: perfect_decomposition([1.0, 1.0, 1.0]), "apd": perfect_attribution}


@pytest.fixture(params=list(MAKERS))
def method(request):
    """Both methods; the sites of one are ablated apart, those of the other together."""
    return request.param


@pytest.fixture
def views(monkeypatch):
    """What the picture was drawn from."""
    seen = {}

    def drawn(views, edges):
        assert torch.equal(edges, scrubbing.EDGES)
        seen.update(views)
        return original(views, edges)

    original = scrubbing.scrubbing_histograms
    monkeypatch.setattr(scrubbing, "scrubbing_histograms", drawn)
    return seen


def stays(method, *key, shape, seed=0):
    """Which components a draw leaves on at each site, drawn anew from what the draw is keyed by."""
    names = SITES[:1] * 2 if method == "apd" else SITES
    return [torch.rand(shape, generator=keyed_generator(seed, *key, name)) < 0.5 for name in names]


def loss_of(x, through):
    """Error where features come through both sites or not at all; the idle component says nothing."""
    return (x * ~through[..., : x.shape[-1]]).square().mean(-1)


def bins(errors):
    """Counts, the slow way."""
    edges = [0.0, *scrubbing.EDGES.tolist(), float("inf")]
    return [sum(low <= error < high for error in errors.tolist()) for low, high in pairwise(edges)]


def test_all_of_a_perfect_decomposition_but_what_is_important_is_free_to_go(method, examples, run, views):
    scores = run(MAKERS[method](), Rows(examples), ScrubbingTest(draws=7)).scores

    assert scores["test/scrubbing/probes_kept"] == 0
    assert scores["test/scrubbing/probes_ablated"] == pytest.approx(LOST)
    probes = views["one-hot probes"]
    assert probes.kept.tolist() == bins(torch.zeros(21))
    assert probes.ablated.tolist() == bins(torch.full((21,), LOST))
    assert probes.unmasked == 0
    assert probes.zero == pytest.approx(LOST)


def test_sites_are_ablated_apart_unless_components_span_them(method, run, views):
    # nothing is above this threshold, so that the draws alone decide
    callback = ScrubbingTest(draws=200, threshold=1.0)

    scores = run(MAKERS[method](), Rows([torch.zeros(2, 3)]), callback).scores

    errors = []
    for draw in range(200):
        first, second = stays(method, "scrubbing", "probes", draw, shape=(3, 4))
        errors.append(loss_of(0.75 * torch.eye(3), first & second))
    expected = torch.cat(errors)
    lost = (expected > 0).float().mean().item()
    assert lost == pytest.approx(0.5 if method == "apd" else 0.75, abs=0.05)
    assert scores["test/scrubbing/probes_kept"] == pytest.approx(lost * LOST)
    assert scores["test/scrubbing/probes_ablated"] == scores["test/scrubbing/probes_kept"]
    assert views["one-hot probes (100.0% without important components)"].kept.tolist() == bins(expected)


@pytest.mark.parametrize("sees_same_draw", [True, False])
def test_one_draw_serves_every_site_of_components_that_span_them(sees_same_draw, examples, run, monkeypatch):
    module = MAKERS["apd" if sees_same_draw else "spd"]()
    used, masked = [], module.model.masked

    def recorded(x, masks, routing=None):
        used.append([mask.components for mask in masks.values()])
        assert all(mask.delta is None for mask in masks.values())
        return masked(x, masks, routing)

    monkeypatch.setattr(module.model, "masked", recorded)
    run(module, Rows(examples), ScrubbingTest(draws=3))

    drawn = [masks for masks in used if 0 < masks[0].mean() < 1]
    assert len(drawn) == 2 * (len(examples) + 1)
    assert all(torch.equal(first, second) == sees_same_draw for first, second in drawn)
    assert all(((mask == 0) | (mask == 1)).all() for masks in drawn for mask in masks)


def important_examples(method, x, threshold, k):
    """What either method calls important: a gate above the threshold, or one of the batch's largest attributions."""
    if method == "spd":
        return (GAIN * x).clamp(0, 1) > threshold
    return (x >= x.flatten().sort(descending=True).values[int(k * len(x)) - 1]) & (x > 0)


def test_examples_of_all_batches_count_alike(method, examples, run, views):
    module = MAKERS[method]()

    scores = run(module, Rows(examples), ScrubbingTest(data_draws=3, threshold=0.6)).scores

    errors = {"kept": [], "ablated": []}
    idle = []
    for index, x in enumerate(examples):
        important = nn.functional.pad(important_examples(method, x, 0.6, k=1.0), (0, 1))
        idle.append(~important.any(1))
        for draw in range(3):
            key = ("evaluation", index, 0, "scrubbing", draw)
            first, second = stays(method, *key, shape=(len(x), 4))
            errors["kept"].append(loss_of(x, important | (first & second)))
            errors["ablated"].append(loss_of(x, ~important & first & second))
    share = torch.cat(idle).float().mean().item()
    assert 0 < share < 1
    (found,) = [view for name, view in views.items() if name.startswith(f"test examples ({share:.1%} without")]
    for name, parts in errors.items():
        expected = torch.cat(parts)
        assert 0 < expected.count_nonzero() < len(expected) == 30
        assert scores[f"test/scrubbing/data_{name}"] == pytest.approx(expected.mean().item())
        assert getattr(found, name).tolist() == bins(expected)
    x = torch.cat(examples)
    assert (found.unmasked, found.zero) == (0, pytest.approx(x.square().mean().item()))


def test_the_delta_component_takes_no_part(run, views):
    module = perfect_decomposition([1.0, 1.0, 1.0])
    with torch.no_grad():  # a half of each weight is left to the delta component
        for parts in module.model.components.values():
            parts.U.mul_(0.5)

    scores = run(module, Rows([torch.zeros(2, 3)]), ScrubbingTest(draws=2)).scores

    assert scores["test/scrubbing/probes_kept"] == pytest.approx(0.75**2 * LOST)
    assert views["one-hot probes"].unmasked == pytest.approx(0.75**2 * LOST)


def test_chosen_features_are_probed_alone(run, views):
    module = perfect_decomposition([1.0, 1.0, 1.0])
    with torch.no_grad():  # the component of the second feature is not called important
        for name in SITES:
            module.model.importance_function.functions[name].weights[0][1] = 0.0

    found = {}
    for features_ in ([0, 2], [1]):
        scores = run(module, Rows([torch.zeros(2, 3)]), ScrubbingTest(draws=20, features=features_)).scores
        found[features_[0]] = scores["test/scrubbing/probes_kept"]

    assert found[0] == 0
    assert found[1] > 0.3 * LOST
    assert views["one-hot probes"].kept.sum() == 40
    assert views["one-hot probes (100.0% without important components)"].kept.sum() == 20


def test_one_picture_is_drawn(examples, run):
    found = run(perfect_decomposition([1.0] * 3), Rows(examples), ScrubbingTest(draws=3), verb="validate")

    assert {name for name in found.scores if "/" in name} == {
        f"val/scrubbing/{view}_{name}" for view in ("probes", "data") for name in ("kept", "ablated")
    }
    assert [path.name for path in (found.folder / "figures").iterdir()] == ["val_scrubbing.png"]


def test_without_probes_the_examples_are_scrubbed(perfect, examples, run, views):
    scores = run(perfect, Unprobed(examples), ScrubbingTest()).scores

    assert {name for name in scores if "/" in name} == {"test/scrubbing/data_kept", "test/scrubbing/data_ablated"}
    assert len(views) == 1


def test_the_seed_decides_on_the_draws(examples, run):
    def scores(seed):
        module = perfect_decomposition([1.0] * 3, seed=seed)
        return run(module, Rows(examples), ScrubbingTest(draws=5, threshold=1.0)).scores

    first = scores(3)
    assert scores(3) == first
    other = scores(4)
    for view in ("probes", "data"):
        assert other[f"test/scrubbing/{view}_kept"] != first[f"test/scrubbing/{view}_kept"]


def test_the_test_cannot_disturb_training(tmp_path):
    watched, alone = toy(), toy()
    validated = {"val_check_interval": 1, "limit_val_batches": None}

    fit(watched, features(), tmp_path, callbacks=[ScrubbingTest(draws=2, every_n_validations=1)], **validated)
    fit(alone, features(), tmp_path)

    for name, parameter in trained_state(watched).items():
        assert torch.equal(parameter, trained_state(alone)[name]), name


@torch.no_grad()
def step_of(module, x):
    """A step of a module that no trainer has, all of its parameters drawn."""
    Decomposition.setup(module, "test")
    for name, parameter in module.model.named_parameters():
        if not name.startswith("target."):
            parameter.copy_(0.6 * torch.randn(parameter.shape, generator=keyed_generator(name)))
    return module.step(x, Noise((0, "somewhere"), CPU))


def errors_of_a_draw(step, draw, threshold):
    """Errors of one draw for all examples, kept and ablated."""
    halves = {name: half[0] for name, half in scrubbing._random_halves(step, range(draw, draw + 1)).items()}
    important = {name: ci.lower > threshold for name, ci in step.importance.items()}
    errors = []
    for on in (
        {name: half | important[name] for name, half in halves.items()},
        {name: half & ~important[name] for name, half in halves.items()},
    ):
        output = step.model.masked(step.batch, {name: SiteMask(mask.float()) for name, mask in on.items()}).output
        errors.append((output - step.clean.output).square().mean(-1).flatten())
    return errors


@pytest.mark.parametrize(("at_once", "chunks"), [(1, [9, 9]), (1200, [2, 5]), (2**22, [1, 1])])
@pytest.mark.parametrize("method", [0, 1], ids=["spd", "apd"])
def test_draws_made_at_once_are_those_made_one_by_one(method, at_once, chunks, monkeypatch):
    # a component of the first method counts 1 per example and site, of the second as many as its rank of 4 or 3
    module = (
        StochasticDecomposition(OwnNetwork(), {"blocks.*.0": 6, "head": 5}),
        AttributionDecomposition(OwnNetwork(), ["blocks.*.0", "head"], 6, k=2.0),
    )[method]
    step = step_of(module, torch.rand(4, 2, 4, generator=keyed_generator("x")))
    monkeypatch.setattr(scrubbing, "NUMBERS_AT_ONCE", at_once)
    tally, calls, original = scrubbing._Tally(CPU), [], scrubbing._random_halves
    monkeypatch.setattr(scrubbing, "_random_halves", lambda *given: calls.append(given) or original(*given))

    with torch.no_grad():
        tally.scrub(step, 0.5, 9)
        assert len(calls) == chunks[method]
        draws = [errors_of_a_draw(step, draw, 0.5) for draw in range(9)]

    for name, errors in zip(("kept", "ablated"), zip(*draws, strict=True), strict=True):
        assert tally.scores("data")[f"data_{name}"] == pytest.approx(torch.cat(errors).mean().item(), rel=1e-5)
        assert getattr(tally.errors(), name).sum() == 9 * 8
        assert errors[0].mean() != errors[1].mean()


class Named(nn.Module):
    """Takes its input by name."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x):
        return self.layer(x)


def test_an_input_that_is_no_tensor_is_seen_one_draw_at_a_time():
    step = step_of(StochasticDecomposition(Named(), {"layer": 4}), {"x": torch.rand(6, 3)})
    tally = scrubbing._Tally(CPU)

    with torch.no_grad():
        tally.scrub(step, 0.1, 3)

    assert tally.errors().kept.sum() == 18


def shared(method, x):
    """Scores and counts, of rows that processes may share."""
    module, tally = MAKERS[method](), scrubbing._Tally(CPU)
    trainer = SimpleNamespace(strategy=SimpleNamespace(reduce=lambda counts, reduce_op: counts))
    if distributed.is_initialized():
        trainer.strategy.reduce = lambda counts, reduce_op: {"sum": sum_over_processes}[reduce_op](counts)
    with torch.no_grad():
        tally.scrub(module.step(x, Noise((0, "evaluation", 0, 0), CPU)), 0.6, 2)
    tally.sum_counts(trainer)
    return tally.scores("data") | tally.errors()._asdict(), tally.described("examples")


def rows():
    return torch.rand(9, 3, generator=keyed_generator("rows"))


def process(rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    torch.save({method: shared(method, rows().split([6, 3])[rank]) for method in MAKERS}, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_processes_find_together_what_one_finds(tmp_path):
    torch.multiprocessing.spawn(process, args=(str(tmp_path),), nprocs=2)

    for method in MAKERS:
        numbers, title = shared(method, rows())
        for rank in (0, 1):
            found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)[method]
            torch.testing.assert_close(found[0], numbers)
            assert found[1] == title


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"draws": 0}, "draws must be at least 1, got 0"),
        ({"data_draws": 1.5}, "data_draws must be a whole number, got 1.5"),
        ({"threshold": -0.1}, "threshold must be a finite number at least 0, got -0.1"),
        ({"probe": 0.0}, "probe must be a finite number above 0, got 0.0"),
        ({"features": 3}, "features must be a list, got 3"),
        ({"features": []}, r"features must name at least one feature, or be null for all, got \[\]"),
        ({"features": [0, -1]}, "features must be at least 0, got -1"),
        ({"every_n_validations": 0}, "every_n_validations must be at least 1, got 0"),
    ],
)
def test_settings_out_of_range_are_refused(options, message):
    with pytest.raises(UsageError, match=f"^{message}$"):
        ScrubbingTest(**options)


def test_features_without_a_probe_are_refused_before_anything_runs(perfect, examples, run):
    with pytest.raises(UsageError, match=r"^features must be below 3, the number of probes, got 3$"):
        run(perfect, Rows(examples), ScrubbingTest(features=[0, 3]))
    with pytest.raises(UsageError, match=r"ScrubbingTest needs a data module with a method probes\(magnitude\)"):
        run(perfect, Unprobed(examples), ScrubbingTest(features=[0]))
