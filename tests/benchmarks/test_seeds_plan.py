"""Plans of tables: seeds, entries, drawn sizes, and what a folder that holds one accepts."""

import pytest
import yaml

from benchmarks.seeds.draw import Draw, drawn_entries, n_components
from benchmarks.seeds.options import parse
from benchmarks.seeds.plan import SHIPPED, find_plan, read_plan
from benchmarks.seeds.seed_lists import read_seeds
from spd_lightning.cli.arguments import find_config
from spd_lightning.errors import UsageError
from spd_lightning.sweep.grid import SEED

PLAN = """\
entries:
- {name: a, config: tms.yaml, seeds: 0-2, set: {trainer.max_steps: 5}}
- config: tms_40-10.yaml
  seeds: [4, 7-8]
  over: {data.batch_size: [16, 32]}
"""


@pytest.fixture
def plan(tmp_path):
    """A plan from text."""

    def written(text, name="mine"):
        path = tmp_path / f"{name}.yaml"
        path.write_text(text)
        return read_plan(path).resolved()

    return written


def test_seeds_are_numbers_and_ranges():
    assert read_seeds(["0-3"]) == ["0", "1", "2", "3"]
    assert read_seeds(["7", "2-3", "7", "3-4"]) == ["7", "2", "3", "4"]
    assert read_seeds(["4294967295"]) == ["4294967295"]


@pytest.mark.parametrize("word", ["", "a", "3-1", "-1", "0-99999", "4294967296", "1.5", "1-2-3", "9" * 50, "²"])
def test_other_seeds_are_refused(word):
    with pytest.raises(UsageError, match=r"seeds are whole numbers up to 4294967295 or ranges such as 0-99, got"):
        read_seeds([word])


def test_a_plan_is_read(plan):
    found = plan(PLAN)

    assert found.name == "mine"
    first, second = found.entries
    assert (first.name, first.configs, first.fixed) == ("a", ("tms.yaml",), {"trainer.max_steps": "5"})
    assert first.points == [{SEED: "0"}, {SEED: "1"}, {SEED: "2"}]
    assert second.name == "tms_40-10"  # after its config
    assert len(second.points) == 6
    assert second.points[0] == {"data.batch_size": "16", SEED: "4"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("entries: [{config: tms.yaml}]", "entry 'tms': seeds are missing"),
        ("entries: [{config: nowhere.yaml, seeds: 0}]", "entry 'nowhere': config 'nowhere.yaml' does not exist"),
        ("entries: [{seeds: 0}]", "no config is named"),
        ("entries: [{config: tms.yaml, seed: 0}]", "unknown key 'seed'; an entry has the keys name, config, set, over"),
        ("entries: {a: 1}", "entries must be a list"),
        ("entry: []", "unknown key 'entry'; a plan has the keys name, draw, entries, drawn"),
        ("{}", "a table needs entries"),
        ("entries: [{name: ../x, config: tms.yaml, seeds: 0}]", "entry '../x': name must start with a letter or digit"),
        ("entries: [{config: tms.yaml, seeds: 0}, {config: tms.yaml, seeds: 1}]", "two entries are named 'tms'"),
        (
            "entries: [{config: tms.yaml, seeds: 0, set: {a: 1}, over: {a: [1]}}]",
            "entry 'tms': a is both set and swept",
        ),
        ("draw: {count: 3}", "draw: seed must be a whole number up to 4294967295, got ''"),
        ("draw: {count: 3, seed: 1, transformer: x.yaml}", "unknown key 'transformer'; draw has the keys count, seed"),
        ("draw: {count: 5000, seed: 1}", "draw: count must be a whole number up to 1000, got '5000'"),
    ],
)
def test_what_is_no_plan_is_refused(text, said, plan):
    with pytest.raises(UsageError) as refused:
        plan(text)
    assert said in str(refused.value)


def test_what_is_written_is_read_back(plan, tmp_path):
    original = plan(PLAN + "draw: {count: 3, seed: 5}\n")
    drawn = plan(PLAN.replace("a,", "b,"), "other").entries
    whole = type(original)("mine", original.entries, original.draw.resolved(), drawn[:1])
    (tmp_path / "plan.yaml").write_text(whole.text())

    assert read_plan(tmp_path / "plan.yaml").resolved() == whole


def test_seeds_values_and_entries_are_added(plan):
    old = plan(PLAN)

    joined = old.joined(plan("entries: [{name: a, config: tms.yaml, seeds: 2-4, set: {trainer.max_steps: 5}}]"))
    assert [point[SEED] for point in joined.entries[0].points] == ["0", "1", "2", "3", "4"]
    assert joined.entries[1] == old.entries[1]

    joined = old.joined(plan("entries: [{name: new, config: tms.yaml, seeds: 9}]"))
    assert [entry.name for entry in joined.entries] == ["a", "tms_40-10", "new"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("entries: [{name: a, config: tms_40-10.yaml, seeds: 0}]", "entry 'a' exists with another config (tms.yaml)"),
        ("entries: [{name: a, config: tms.yaml, seeds: 0}]", "exists with another --set (trainer.max_steps=5)"),
        (
            "entries: [{name: a, config: tms.yaml, seeds: 0, set: {trainer.max_steps: 5}, over: {a: [1]}}]",
            "exists with another set of swept keys",
        ),
    ],
)
def test_another_plan_of_that_name_is_refused(text, said, plan):
    with pytest.raises(UsageError) as refused:
        plan(PLAN).joined(plan(text))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_another_draw_of_that_name_is_refused():
    first, second = (parse(["--draw", "4", "--seed", seed]).plan for seed in "12")
    with pytest.raises(UsageError, match=r"table 'drawn' exists with another draw \({count: 4, seed: 1, "):
        first.joined(second)
    longer = parse(["--draw", "5", "--seed", "1"]).plan
    with pytest.raises(UsageError, match="exists with another draw"):
        first.joined(longer)  # one more, because the first four were not to one's liking
    more = parse(["--draw", "4", "--seed", "1", "--seeds", "0-4"]).plan
    assert [len(entry.points) for entry in first.joined(more).drawn] == [5, 5, 5, 5]


def test_a_draw_is_repeated_and_lies_in_range():
    sizes = drawn_entries(Draw(80, 3))

    assert sizes == drawn_entries(Draw(80, 3))
    assert sizes[:12] == drawn_entries(Draw(12, 3))
    assert sizes[:12] != drawn_entries(Draw(12, 4))[:12]
    assert len({entry.name for entry in sizes}) == 80
    kinds = ["id" if name.endswith("-id") else name[:3] for name in (entry.name for entry in sizes)]
    assert kinds == ["tms", "id", "tms", "res"] * 20
    for entry, kind in zip(sizes, kinds, strict=True):
        check = _check_residual_mlp if kind == "res" else _check_toy
        check(entry.fixed, yaml.safe_load(entry.fixed["model.sites"]))
        assert entry.points == [{SEED: "0"}, {SEED: "1"}, {SEED: "2"}]
        assert entry.fixed["data.n_features"] == entry.fixed["model.target.n_features"]


def _check_toy(settings, sites):
    n, m = (int(settings[f"model.target.n_{name}"]) for name in ("features", "hidden"))
    assert 4 <= n <= 60
    assert 2 <= m <= 15
    assert m < n <= (5 if m == 2 else 4 * m)
    assert (n, m) not in ((5, 2), (40, 10))
    assert sites["linear1"] == sites["linear2"] == max(40, 4 * n)
    assert sites.get("hidden_layers.0", 4 * m) == 4 * m


def _check_residual_mlp(settings, sites):
    n, layers, width, stream = (
        int(settings[f"model.target.{name}"]) for name in ("n_features", "n_layers", "d_mlp", "d_embed")
    )
    assert 1 <= layers <= 3
    assert 13 <= layers * width <= 62  # 15 to 60 neurons, shared out evenly
    assert (layers, width) not in ((1, 50), (2, 25), (3, 17))
    assert (n, stream) == (2 * layers * width, 10 * n)
    assert sites == {"layers.*.mlp_in": max(40, 4 * n), "layers.*.mlp_out": 4 * width}


def test_more_sizes_than_there_are_cannot_be_drawn():
    with pytest.raises(UsageError, match="count must be below the number of sizes that there are, got 900"):
        drawn_entries(Draw(900, 0))


@pytest.mark.parametrize(
    ("inputs", "rank", "as_a_whole", "count"), [(5, 2, False, 40), (40, 10, False, 160), (40, 10, True, 40)]
)
def test_components_by_size(inputs, rank, as_a_whole, count):
    assert n_components(inputs, rank, as_a_whole) == count


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_plans_name_configs_that_ship(path):
    plan = parse([path.stem]).plan
    assert find_plan(path.stem) == path
    for entry in plan.all:
        assert find_config(entry.configs[0]).is_file()
        assert len({point[SEED] for point in entry.points}) == (100 if path.stem == "hundred" else 3)


def test_the_plateaus_surround_what_the_recipe_says():
    entries = {entry.name: entry for entry in parse(["plateaus"]).plan.entries}
    recipe = yaml.safe_load(find_config("default.yaml").read_text())["model"]
    for system, config in (("tms_5-2", "tms.yaml"), ("tms_40-10", "tms_40-10.yaml"), ("residual_mlp_1",) * 2):
        own = yaml.safe_load(find_config(config if config.endswith(".yaml") else f"{config}.yaml").read_text())
        ratios = {
            "tolerance": recipe["losses"]["importance"]["init_args"]["tolerance"],
            "batch": own["data"]["init_args"]["batch_size"],
            "rates": recipe["optimization"]["lr"],
        }
        wanted = {
            "tolerance": [0.1, 0.316, 1, 3.16, 10],
            "batch": [0.25, 0.5, 1, 2, 4],
            "rates": [0.5, 0.707, 1, 1.41, 2],
        }
        for kind, centre in ratios.items():
            key = entries[f"{system}_{kind}"].keys[0]
            values = [float(point[key]) for point in entries[f"{system}_{kind}"].points[::3]]
            assert [value / centre for value in values] == pytest.approx(wanted[kind], rel=0.02)
        sites = [yaml.safe_load(point["model.sites"]) for point in entries[f"{system}_C"].points[::3]]
        features = own["data"]["init_args"]["n_features"]
        assert [next(iter(counts.values())) / features for counts in sites] == [2, 4, 8]
