"""Prompt circuits of networks whose circuits are known, and the search's objective restated slowly."""

import functools
import json
from dataclasses import replace

import pytest
import torch

from spd_lightning import AttributedModel, GateMLP, PerSite, SiteMask, UsageError
from spd_lightning.analysis import (
    WITH,
    WITHOUT,
    CircuitSearch,
    Goal,
    prompt_circuits,
    read_circuits,
    save_circuits,
)
from spd_lightning.analysis.circuit_search import Problem, frozen, objective
from spd_lightning.analysis.circuits import DRAWS, LONGER
from spd_lightning.figures import circuit_maps
from spd_lightning.functional.seeds import keyed_generator, keyed_seed
from spd_lightning.kernels import row_uniforms
from spd_lightning.targets import ToyModelOfSuperposition
from tests import reference
from tests.analysis.circuit_systems import known_decoy, known_induction, nodes_of, sequences
from tests.losses.restated import draw, sites_of
from tests.networks.models import decomposed, randomised
from tests.networks.zoo import ZOO, example

SHORT = CircuitSearch(steps=3, adversary_steps=2)


def _needed(model, tokens, answers):
    """The nodes that the construction names, by hand."""
    found = set()
    for row, (sequence, answer) in enumerate(zip(tokens.tolist(), answers.tolist(), strict=True)):
        trigger = sequence[-1]
        first = sequence.index(trigger)
        found |= {
            ("layers.0.q", row, first + 1, first - 1),
            ("layers.0.k", row, first, first - 1),
            ("layers.0.v", row, first, trigger),
            ("layers.0.o", row, first + 1, trigger),
            ("layers.1.q", row, 9, trigger),
            ("layers.1.k", row, first + 1, trigger),
            ("layers.1.v", row, first + 1, answer),
            ("layers.1.o", row, 9, answer),
        }
    return found


@pytest.fixture(scope="module")
def induction():
    """The induction transformer, four of its sequences, and the circuits of their answers."""
    model, (tokens, answers) = known_induction(), sequences(4)
    search = CircuitSearch(steps=90, lr=0.05)
    return model, tokens, answers, prompt_circuits(model, tokens, Goal.label(model, tokens, answers), search)


def test_the_circuit_of_induction_is_its_two_heads(induction):
    model, tokens, answers, found = induction
    circuit, needed = found.circuits[WITH], _needed(model, tokens, answers)

    assert (found.alive > 100).all()  # every token is read at every position
    assert nodes_of(model, circuit) >= needed
    assert len(nodes_of(model, circuit)) <= 1.25 * len(needed)
    assert circuit.outcomes["attacked"].right.mean() >= 0.9
    assert circuit.outcomes["attacked_everywhere"].right.mean() >= 0.9
    assert circuit.outcomes["alone"].right.mean() == 1
    assert circuit.outcomes["ablated"].right.mean() == 0
    assert circuit.outcomes["random"].right.mean() <= 0.5


def test_a_circuit_may_be_shared_by_rows_of_one_task():
    model, (tokens, _) = known_induction(), sequences(40)
    trigger_at = (tokens == tokens[:, -1:]).int().argmax(1)
    tokens = tokens[trigger_at == 3][:3]
    answers, search = tokens[:, 4], CircuitSearch(steps=70, lr=0.06, shared=True)

    found = prompt_circuits(model, tokens, Goal.label(model, tokens, answers), search)
    circuit = found.circuits[WITH]

    assert len(tokens) == 3
    needed = {(call, 0, position, component) for call, _, position, component in _needed(model, tokens, answers)}
    assert {len(g) for g in circuit.importances.values()} == {1}
    assert nodes_of(model, circuit) >= needed
    assert len(nodes_of(model, circuit)) <= 1.25 * len(needed)
    assert circuit.outcomes["attacked"].right.tolist() == [1, 1, 1]


def test_without_the_adversary_the_decoys_are_overlooked():
    model, x = known_decoy()

    found = prompt_circuits(model, x, Goal.label(model, x, 0), CircuitSearch(steps=150, lr=0.05, penalty=0.05))
    attacked, fooled = found.circuits[WITH], found.circuits[WITHOUT]

    assert found.outcomes["target"].right.item() == 1
    # half of the decoys pull the right way: without them the others win
    assert 15 <= attacked.sizes.item() <= 24
    assert fooled.sizes.item() <= 4
    assert fooled.outcomes["alone"].right.item() == fooled.outcomes["stochastic"].right.item() == 1  # it looks perfect
    assert fooled.outcomes["stochastic"].distance.item() < 0.1
    assert fooled.outcomes["attacked"].right.item() == 0
    assert fooled.outcomes["attacked"].distance.item() > 5
    assert attacked.outcomes["attacked"].right.item() == 1
    assert attacked.outcomes["attacked"].distance.item() < 0.2


def _logits(problem):
    """Leaves on both sides of the sigmoid's corners."""
    generator, logits = torch.Generator().manual_seed(5), {}
    for call, z in problem.start.items():
        shift = 0.4 * torch.randn(z.shape, dtype=z.dtype, generator=generator)
        logits[call] = (z + shift).requires_grad_()
    return logits


def _restated(problem, logits, number, adversary):
    """The objective, entry by entry: half of each distance, and the price of every node."""
    search, form, x = problem.search, problem.form, problem.form.batch
    sites, bias, names = sites_of(form.model), form.model.target.linear2.bias, list(logits)
    kept = {name: torch.where(problem.alive[name], z, torch.zeros_like(z)) for name, z in logits.items()}
    lower = {
        name: reference.elementwise(reference.lower_one_sided, reference.lower_one_sided_backward, z)
        for name, z in kept.items()
    }
    upper = [reference.elementwise(reference.upper, reference.upper_backward, z) for z in kept.values()]

    def distance(importances, sources, deltas):
        masks = {name: reference.mask(importances[name], sources[name]) for name in names}
        return reference.joint_reconstruction(reference.mse, x, sites, bias, masks, deltas) / problem.unit

    def noise(purpose):
        return keyed_generator(search.seed, "circuit", number, purpose)

    generator = noise("stochastic")
    seed = generator.initial_seed()
    uniform = {n: row_uniforms(lower[n].shape, keyed_seed(seed, n), lower[n], compiled=False) for n in names}
    stochastic = distance(lower, uniform, {name: draw((len(x),), generator) for name in names})
    price = problem.price * sum(
        float(g > 0) and (g + 1e-12) ** search.p - 1e-12**search.p for site in upper for g in site.flatten()
    )
    if not adversary:
        return stochastic + price / len(x)

    generator, sources, deltas = noise("adversary"), {}, {}
    for name in names:
        sources[name] = draw(lower[name].shape, generator)
        deltas[name] = draw((len(x),), generator)
    constants = {name: g.detach() for name, g in lower.items()}
    for _ in range(search.adversary_steps):
        leaves = {name: source.clone().requires_grad_() for name, source in sources.items()}
        gradients = torch.autograd.grad(distance(constants, leaves, deltas), list(leaves.values()))
        for (name, source), gradient in zip(sources.items(), gradients, strict=True):
            for place in problem.alive[name].nonzero().tolist():  # dead components keep what was drawn
                moved = source[*place] + search.adversary_step_size * gradient[*place].sign()
                source[*place] = moved.clamp(0, 1)
    return 0.5 * stochastic + 0.5 * distance(lower, sources, deltas) + price / len(x)


@pytest.mark.parametrize("adversary", [True, False])
def test_the_objective_equals_its_slow_restatement(adversary, make_model):
    model = make_model(importance=functools.partial(PerSite, function=functools.partial(GateMLP, hidden=[3])))
    x = torch.rand(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    search = CircuitSearch(adversary_steps=3, adversary_step_size=0.3, penalty=0.2, seed=7)

    with frozen(model):
        problem = Problem(model, x, Goal.own_output(model, x), search)
        logits = _logits(problem)
        terms = objective(problem, logits, 11, adversary)
        wanted = _restated(problem, logits, 11, adversary)
        found, expected = (torch.autograd.grad(one, list(logits.values())) for one in (terms.total, wanted))

    dead = sum(int((~alive).sum()) for alive in problem.alive.values())
    assert 0 < dead < 21  # of 3 rows times 7 components
    zeros = {name: torch.zeros_like(g) for name, g in problem.start.items()}
    everything = reference.joint_reconstruction(reference.mse, x, sites_of(model), model.target.linear2.bias, zeros)
    assert problem.unit == pytest.approx(everything.item(), rel=1e-12)
    torch.testing.assert_close(terms.total, wanted, rtol=1e-10, atol=1e-12)
    for one, other in zip(found, expected, strict=True):
        assert one.any()
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ZOO)
def test_every_network_has_circuits(name):
    model, batch = randomised(decomposed(name)), example(name)
    before = {key: parameter.requires_grad for key, parameter in model.named_parameters()}
    kind = "kl" if name in ("padded dictionary", "gpt2", "llama", "bert") else "mse"

    found = prompt_circuits(model, batch, Goal.own_output(model, batch, kind), SHORT)
    circuit = found.circuits[WITH]

    assert {key: parameter.requires_grad for key, parameter in model.named_parameters()} == before
    assert (found.alive > 0).any()
    weights = model.call.arguments(batch).weights
    for g in circuit.importances.values():
        counted = torch.ones(g.shape[:-1], dtype=torch.bool)
        counted = counted if weights.values is None else weights.raw(g.shape[:-1]) > 0
        assert not g[~counted].any()  # padding has no nodes
    alone = {call: (g > 0).to(g.dtype) for call, g in circuit.importances.items()}
    off = {call: SiteMask(1 - kept, torch.ones(kept.shape[:-1]).to(kept)) for call, kept in alone.items()}
    with torch.no_grad():
        for regime, masks in {"alone": alone, "ablated": off}.items():
            wanted = found.goal.rows(model.masked(batch, masks).output)
            assert torch.allclose(circuit.outcomes[regime].distance, wanted, rtol=1e-3, atol=1e-4), regime
    assert torch.allclose(found.outcomes["target"].distance, torch.zeros(1), atol=1e-5)


def test_the_verdict_s_adversary_is_fresh_and_four_times_as_long(monkeypatch):
    model, x = known_decoy()
    ascents, original = [], Problem.attacked

    def spy(problem, step, sources, steps, size, everywhere=False):
        ascents.append((steps, size, everywhere, sources["read"].clone()))
        return original(problem, step, sources, steps, size, everywhere)

    monkeypatch.setattr(Problem, "attacked", spy)
    prompt_circuits(model, x, Goal.label(model, x, 0), replace(SHORT, adversary_steps=5))

    kinds = [ascent[:3] for ascent in ascents]
    assert kinds[:3] == [(5, 1.0, False)] * 3  # one a step of the search with an adversary, none in the other
    assert kinds[3:] == 2 * (20 * [(1, 0.25, False)] + 20 * [(1, 0.25, True)])
    assert not any(torch.equal(ascents[3][3], ascent[3]) for ascent in ascents[:3])
    assert LONGER == 4


def test_the_verdict_is_the_worst_that_is_passed():
    model, x = known_decoy()
    goal = Goal.label(model, x, 0)
    found = prompt_circuits(model, x, goal, replace(SHORT, steps=40, lr=0.02)).circuits[WITHOUT]

    g, weight = found.importances["read"][0], model.target.read.weight[0]
    # the signal and what pulls with it as weak as they may be, all else on
    least = torch.where(weight > 0, g, 1.0) @ weight
    corner = torch.nn.functional.softplus(-2 * least).item()
    assert found.outcomes["attacked"].distance.item() == pytest.approx(corner, rel=1e-4)
    assert corner > found.outcomes["stochastic"].distance.item() + 0.5


def test_random_circuits_are_as_large_and_alive(monkeypatch):
    import spd_lightning.analysis.circuits as module

    model, (tokens, answers) = known_induction(), sequences(2)
    drawn, original = [], module._random_circuits

    def spy(*given):
        some = list(original(*given))
        drawn.extend(some)
        return iter(some)

    monkeypatch.setattr(module, "_random_circuits", spy)
    found = prompt_circuits(model, tokens, Goal.label(model, tokens, answers), replace(SHORT, threshold=0.5))

    alive = {call: ci.lower > 0 for call, ci in model.importance_of(tokens).items()}
    for number, circuit in enumerate(found.circuits.values()):
        for one in drawn[number * DRAWS : (number + 1) * DRAWS]:
            assert sum(g.flatten(1).sum(1) for g in one.values()).tolist() == circuit.sizes.tolist()
            assert all((alive[call] | (g == 0)).all() for call, g in one.items())
    assert any(not torch.equal(drawn[0][call], drawn[1][call]) for call in alive)


def test_the_same_seed_finds_the_same():
    model, x = known_decoy()
    goal = Goal.label(model, x, 0)

    one, same, other = (prompt_circuits(model, x, goal, replace(SHORT, seed=seed)).circuits[WITH] for seed in (1, 1, 2))

    assert torch.equal(one.importances["read"], same.importances["read"])
    assert torch.equal(one.history, same.history)
    assert not torch.equal(one.history, other.history)


def test_a_goal_of_a_token_is_the_cross_entropy():
    model, (tokens, answers) = known_induction(), sequences(3)
    goal, logits = Goal.label(model, tokens, answers), torch.randn(3, 8)

    odds = logits.exp() / logits.exp().sum(1, keepdim=True)
    expected = [-odds[row, answer].log().item() for row, answer in enumerate(answers)]
    assert goal.rows(logits).tolist() == pytest.approx(expected, rel=1e-5)
    assert goal.right(logits).tolist() == [float(logits[row].argmax() == answer) for row, answer in enumerate(answers)]
    assert goal.right(torch.zeros(3, 8)).tolist() == [0, 0, 0]  # what does not decide is not right


def test_a_position_may_be_chosen():
    model, batch = decomposed("gpt2"), example("gpt2")
    output = model.clean(batch).output

    goal = Goal.own_output(model, batch, "kl", position=0)
    other = output.clone()
    other[:, 1:] += torch.randn_like(other[:, 1:])
    assert torch.allclose(goal.rows(other), torch.zeros(4), atol=1e-6)
    last = Goal.label(model, batch, [1, 2, 3, 4])
    assert last.rows(output).tolist() == pytest.approx(
        [-output[row, -1].log_softmax(-1)[row + 1].item() for row in range(4)], rel=1e-5
    )


def test_padding_does_not_count_in_the_output():
    model, batch = decomposed("gpt2"), example("gpt2")
    goal, output = Goal.own_output(model, batch, "kl"), model.clean(batch).output
    other = output + torch.randn(output.shape, generator=torch.Generator().manual_seed(1))

    log_p, log_q, expected = output.log_softmax(-1), other.log_softmax(-1), []
    for row, length in enumerate(batch["attention_mask"].sum(1).tolist()):
        each = [(log_p[row, t].exp() * (log_p[row, t] - log_q[row, t])).sum() for t in range(length)]
        expected.append(sum(each).item() / length)
    assert goal.rows(other).tolist() == pytest.approx(expected, rel=1e-4)


def test_circuits_come_back_from_the_disk(induction, tmp_path):
    model, *_, found = induction
    save_circuits(tmp_path / "a" / "some.thing", found, model, {"text": ["$x_{1}</script>\n"]})
    again = read_circuits(tmp_path / "a" / "some.thing", model)

    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["some.thing.json", "some.thing.safetensors"]
    assert list(again.circuits) == [WITH, WITHOUT]
    assert again.search == found.search
    assert torch.equal(again.alive, found.alive)
    assert torch.equal(again.goal.labels, found.goal.labels)
    assert torch.equal(again.goal.rows(torch.ones(4, 8)), found.goal.rows(torch.ones(4, 8)))
    for name, circuit in found.circuits.items():
        assert torch.equal(again.circuits[name].history.nan_to_num(), circuit.history.nan_to_num())
        for call, g in circuit.importances.items():
            assert torch.equal(again.circuits[name].importances[call], g)
        for regime, outcome in circuit.outcomes.items():
            assert torch.allclose(again.circuits[name].outcomes[regime].distance, outcome.distance)
    about = json.loads((tmp_path / "a" / "some.thing.json").read_text())
    assert about["about"]["text"] == ["$x_{1}</script>\n"]
    assert about["circuits"][WITH]["nodes"] == found.circuits[WITH].sizes.tolist()

    with pytest.raises(UsageError, match="exists, and nothing is overwritten"):
        save_circuits(tmp_path / "a" / "some.thing", found, model)
    with pytest.raises(UsageError, match="of other weights than the model's"):
        read_circuits(tmp_path / "a" / "some.thing", known_decoy()[0])
    with pytest.raises(UsageError, match="does not exist"):
        read_circuits(tmp_path / "a" / "another", model)
    (tmp_path / "a" / "some.thing.json").write_text('{"format": 1, "goal": []}')
    with pytest.raises(UsageError, match="damaged"):
        read_circuits(tmp_path / "a" / "some.thing", model)


def test_circuits_are_drawn_whatever_the_tokens_are(induction):
    *_, found = induction
    tables = {name: circuit.tables() for name, circuit in found.circuits.items()}
    rows = ["$x_{$", "\n", "\u4e2d", "<b>", "\\frac", *"abcde"]

    figure = circuit_maps(tables, rows, about="$\\alpha$")
    figure.canvas.draw()

    panel = figure.axes[0]
    assert [label.get_text() for label in panel.get_yticklabels()][:3] == [r"\$x_{\$", "\\n", "\\u4e2d"]
    assert len(figure.axes) == 2 * 8 + 1  # both circuits have nodes at all eight sites
    drawn = panel.images[0].get_array()
    circuit = found.circuits[WITH].importances["layers.0.q"]
    columns = [
        c for c in range(8) if any(one.importances["layers.0.q"][..., c].any() for one in found.circuits.values())
    ]
    assert torch.allclose(torch.tensor(drawn).float(), circuit.mean(0)[:, columns].float())
    assert f"with the adversary: {sum(int((t > 0).sum()) for t in tables[WITH].values())} nodes" in figure.get_label()


def test_an_empty_circuit_is_told_and_drawn():
    model, x = known_decoy()
    found = prompt_circuits(model, x, Goal.label(model, x, 0), CircuitSearch(steps=60, lr=0.1, penalty=50.0))

    assert found.circuits[WITH].sizes.tolist() == [0]
    assert found.circuits[WITH].outcomes["alone"].distance.item() == pytest.approx(0.6931, abs=1e-3)
    figure = circuit_maps({name: circuit.tables() for name, circuit in found.circuits.items()}, ["0"])
    figure.canvas.draw()
    assert "0 nodes" in figure.get_label()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"lr": -1.0}, "lr must be a finite number above 0"),
        ({"lr": float("nan")}, "lr must be a finite number above 0"),
        ({"p": 0.0}, "p must be a finite number above 0"),
        ({"penalty": -0.1}, "penalty must be a finite number at least 0"),
        ({"threshold": 1.5}, r"threshold must lie in \[0, 1\]"),
        ({"alive": "much"}, "alive must be a number"),
        ({"shared": 1}, "shared must be true or false"),
        ({"adversary_steps": True}, "adversary_steps must be a whole number"),
    ],
)
def test_wrong_settings_are_refused(settings, said):
    with pytest.raises(UsageError, match=f"circuit: {said}"):
        CircuitSearch(**settings)


def test_what_cannot_be_wanted_is_refused():
    model, (tokens, answers) = known_induction(), sequences(3)
    with pytest.raises(UsageError, match="token or class must be at most 7, got 8"):
        Goal.label(model, tokens, 8)
    with pytest.raises(UsageError, match="there are 3 rows, got 2 wanted"):
        Goal.label(model, tokens, answers[:2])
    with pytest.raises(UsageError, match="the position must be at most 0, got 3"):
        Goal.label(model, tokens, answers, at=3)
    padded, batch = decomposed("padded dictionary"), example("padded dictionary")
    with pytest.raises(UsageError, match="never puts out the wanted token or class"):
        Goal.label(padded, batch, 5)
    gpt2, batch = decomposed("gpt2"), example("gpt2")  # the third row has one token, and padding after it
    with pytest.raises(UsageError, match="a row has no position that counts"):
        Goal.own_output(gpt2, batch, "kl", position=-1)


def test_what_has_no_circuit_is_refused():
    older = AttributedModel(ToyModelOfSuperposition(4, 3), ["linear1", "linear2"], n_components=3)
    x = torch.rand(2, 4)
    with pytest.raises(UsageError, match="components of the older method lack"):
        prompt_circuits(older, x, Goal.own_output(older, x), SHORT)
    model, x = known_decoy()
    with pytest.raises(UsageError, match="no component is important"):
        prompt_circuits(model, -x, Goal.label(model, x, 0), SHORT)
