"""What the routes answer, against what was written into the files."""

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from scipy.optimize import linear_sum_assignment

from spd_lightning.analysis.attribution_graph import AttributionGraph
from spd_lightning.analysis.graph_files import save_graph
from spd_lightning.analysis.graph_flow import influence
from tests.tensorboard_plugin.client import Tab
from tests.tensorboard_plugin.made_runs import (
    CALLS,
    COUNT,
    DENSITY,
    FIRINGS,
    SIZES,
    vectors,
    write_artefact,
    write_pictures,
    write_run,
    write_scores,
)


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    logdir = tmp_path_factory.mktemp("logdir")
    write_run(logdir / "exp" / "version_0")
    write_run(logdir / "exp" / "version_1", seed=1)
    return Tab(logdir)


RUN = "exp/version_0"
KEYS = [(call, one) for call in CALLS for one in range(COUNT)]


def names(page):
    return [(row["call"], row["component"]) for row in page["rows"]]


def test_runs_are_found_by_what_is_in_them(tab):
    assert tab.runs() == ["exp/version_0", "exp/version_1"]
    assert tab.plugin.is_active()


def test_a_run_in_numbers(tab):
    found = tab.ask("run", run=RUN)

    assert (found["state"], found["steps"], found["seed"]) == ("finished", 40, 3)
    assert found["distance"] == "kl"
    assert found["totals"] == {"l0": 1.75, "alive": 8.0}
    masked = next(one for one in found["regimes"] if one["name"] == "ci_masked")
    assert (masked["distance"], masked["share"], masked["cross_entropy"]) == (0.02, pytest.approx(0.04), 1.75)
    assert found["ladder"] == [
        {"steps": 20, "share": pytest.approx(0.1)},
        {"steps": 80, "share": pytest.approx(0.2)},
    ]
    assert [(one["call"], one["count"], one["alive"], one["d_in"], one["d_out"]) for one in found["sites"]] == [
        (CALLS[0], 6, 4, 4, 3),
        (CALLS[1], 6, 4, 3, 5),
    ]
    assert found["validations"] == {"density": [10, 20], "importances": []}
    assert (found["has"]["graphs"], found["has"]["circuits"], found["has"]["labels"]) == (1, 1, True)
    assert {one["question"] for one in found["verdict"]} >= {"faithful", "sparse"}
    assert found["problems"] == []


def test_components_come_by_density_and_in_pages(tab):
    living = sorted((key for key in KEYS if FIRINGS[key[0]][key[1]]), key=lambda key: -DENSITY[key[0]][key[1]])

    first = tab.ask("components", run=RUN, count=3)
    rest = tab.ask("components", run=RUN, first=3, count=100)

    assert (first["total"], len(first["rows"])) == (8, 3)
    assert names(first) + names(rest) == living
    row = first["rows"][0]
    assert (row["density"], row["firings"], row["mean"]) == (pytest.approx(0.9), 90, pytest.approx(0.45))
    assert (row["label"], row["mechanism"], row["alive"]) == ("on y1", 0, True)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"call": CALLS[1], "sort": "place"}, [(CALLS[1], n) for n in (0, 1, 3, 4)]),
        ({"alive": "dead", "sort": "place"}, [(CALLS[0], 1), (CALLS[0], 4), (CALLS[1], 2), (CALLS[1], 5)]),
        ({"mechanism": 0, "sort": "place"}, [(CALLS[0], 0), (CALLS[0], 2), (CALLS[1], 1)]),
        ({"mechanism": 1}, []),  # a group of one is no mechanism
        ({"search": "Y1"}, [(CALLS[1], 1)]),
        ({"search": "fc:3"}, [(CALLS[0], 3)]),
        ({"search": "3", "sort": "place"}, [(CALLS[0], 3), (CALLS[1], 3)]),
        ({"search": "out[", "sort": "place", "order": "down"}, [(CALLS[1], n) for n in (4, 3, 1, 0)]),
        ({"search": "on x", "sort": "label"}, [(CALLS[0], 0), (CALLS[1], 0), (CALLS[0], 3), (CALLS[1], 3)]),
        ({"call": CALLS[0], "sort": "firings", "order": "up"}, [(CALLS[0], n) for n in (3, 5, 2, 0)]),
        ({"call": "no such"}, []),
    ],
)
def test_components_are_filtered_and_sorted(tab, asked, expected):
    assert names(tab.ask("components", run=RUN, **asked)) == expected


def test_components_without_a_mechanism_come_last_either_way(tab):
    for order in ("up", "down"):
        rows = tab.ask("components", run=RUN, sort="mechanism", order=order)["rows"]
        groups = [row["mechanism"] for row in rows]
        assert groups == ([0, 0, 0, 2, 2] if order == "up" else [2, 2, 0, 0, 0]) + [None] * 3


def test_the_map_has_every_component(tab):
    found = tab.ask("map", run=RUN)

    assert (found["calls"], found["counts"]) == (list(CALLS), [6, 6])
    np.testing.assert_array_equal(found["density"], np.concatenate(list(DENSITY.values())))
    np.testing.assert_allclose(found["mean"], np.concatenate([FIRINGS[call] for call in CALLS]) / 200)
    assert found["mechanism"].tolist() == [0, -1, 0, -1, -1, -1, -1, 0, -1, 2, 2, -1]


def test_densities_of_a_validation_take_the_place_of_the_test_s(tab):
    found = tab.ask("map", run=RUN, step=20)
    row = tab.ask("components", run=RUN, step=20, count=1)["rows"][0]

    np.testing.assert_allclose(found["density"], np.concatenate(list(DENSITY.values())) / 20)
    assert (row["density"], row["firings"], row["mean"]) == (pytest.approx(0.9 / 20), None, None)
    assert tab.ask("components", run=RUN, step=20)["total"] == 8


def test_a_card(tab):
    found = tab.ask("component", run=RUN, call=CALLS[0], component=2)

    assert (found["label"], found["mechanism"], found["firings"]) == ("on z2", 0, 25)
    assert found["neighbours"] == [0, 3]
    assert (found["row"]["histogram"], found["row"]["on"][0]["text"]) == ([90, 0, 10], " b")
    assert found["row"]["writes"] == [{"index": 2, "name": "cat", "weight": -2.5}]
    window = found["row"]["windows"][0]
    assert (window["texts"], window["importances"], window["at"]) == (["a", " b", "\n"], [0.0, 0.75, 0.125], 1)
    assert found["partners"] == {f"{CALLS[1]}:3": "on x3"}
    assert (found["ablation"]["distance"], found["ablation"]["rank"], found["ablation"]["of"]) == (1.0, 1, 4)
    assert found["ablation"]["changes"] == [10, 11, 12, 13, 14]
    assert found["intruder"] == {"judge": "nobody", "chance": 0.2, "right": True}
    assert found["probes"]["places"] == [
        {"row": 1, "label": "q", "importance": pytest.approx(8 / 12, abs=1e-3)},
        {"row": 0, "label": "p", "importance": pytest.approx(2 / 12, abs=1e-3)},
    ]


def test_a_card_says_what_is_not_there(tab):
    dead = tab.ask("component", run=RUN, call=CALLS[1], component=5)

    assert not dead["alive"]
    unused = tab.ask("component", run=RUN, call=CALLS[0], component=1)["ablation"]
    assert (unused["kind"], unused["error"].startswith("not ablated alone")) == ("missing", True)
    assert dead["row"] == {"error": "important nowhere in the harvest", "kind": "missing"}
    assert dead["ablation"]["kind"] == dead["intruder"]["kind"] == dead["probes"]["kind"] == "missing"
    for call, component in ((CALLS[0], COUNT), ("h.7", 0)):
        assert tab.ask("component", run=RUN, call=call, component=component)["kind"] == "gone"


@pytest.mark.parametrize("call", CALLS)
def test_vectors_are_those_of_the_file_with_the_length_on_the_write_side(tab, call):
    V, U = vectors()[call]

    found = tab.ask("vectors", run=RUN, call=call, component=4)

    length = np.linalg.norm(V[:, 4])
    np.testing.assert_allclose(found["read"], V[:, 4] / length, rtol=1e-6)
    np.testing.assert_allclose(found["write"], U[4] * length, rtol=1e-6)
    assert found["strength"] == pytest.approx(length * np.linalg.norm(U[4]), rel=1e-6)
    assert (found["rank"], found["image"]) == (1, None)


def test_vectors_of_a_tied_site_are_the_other_s_exchanged(tmp_path):
    write_artefact(tmp_path / "run", ties={"mirror": CALLS[0]})
    config = (tmp_path / "run" / "config.json").read_text()
    mirrored = config.replace('"h.1.out[v]"', '"mirror": {"C": 6, "d_in": 3, "d_out": 4}, "h.1.out[v]"', 1)
    (tmp_path / "run" / "config.json").write_text(mirrored)
    V, U = vectors()[CALLS[0]]

    found = Tab(tmp_path).ask("vectors", run="run", call="mirror", component=1)

    np.testing.assert_allclose(found["read"], U[1] / np.linalg.norm(U[1]), rtol=1e-6)
    np.testing.assert_allclose(found["write"], V[:, 1] * np.linalg.norm(U[1]), rtol=1e-6)


def test_vectors_of_a_component_of_higher_rank_are_its_leading_pair(tmp_path):
    write_artefact(tmp_path / "run")
    draw = np.random.default_rng(5)
    V, U = (
        draw.standard_normal((4, COUNT, 2)).astype(np.float32),
        draw.standard_normal((COUNT, 2, 3)).astype(np.float32),
    )
    save_file({"components.h-0-fc.V": V, "components.h-0-fc.U": U}, tmp_path / "run" / "components.safetensors")

    found = Tab(tmp_path).ask("vectors", run="run", call=CALLS[0], component=3)

    left, values, right = np.linalg.svd(V[:, 3] @ U[3])
    assert found["rank"] == 2
    np.testing.assert_allclose(
        np.outer(found["read"], found["write"]), values[0] * np.outer(left[:, 0], right[0]), atol=1e-5
    )
    assert np.linalg.norm(found["read"]) == pytest.approx(1, abs=1e-6)
    assert Tab(tmp_path).ask("pairs", a="run", b="run", site=CALLS[0])["kind"] == "damaged"


def test_pixels_are_known_from_the_callback(tmp_path):
    run = tmp_path / "run"
    write_artefact(run)
    write_scores(run)
    callback = "{class_path: spd_lightning.callbacks.ComponentImages, init_args: {image_shape: [2, 2]}}"
    (run / "config.yaml").write_text(f"trainer: {{callbacks: [{callback}]}}\n")
    tab = Tab(tmp_path)

    assert tab.ask("vectors", run="run", call=CALLS[0], component=0)["image"] == [2, 2]
    assert tab.ask("vectors", run="run", call=CALLS[1], component=0)["image"] is None


def test_mechanisms_are_the_groups_of_several(tab):
    found = tab.ask("mechanisms", run=RUN)

    assert found["total"] == 2
    assert [(one["number"], one["size"], one["share"]) for one in found["rows"]] == [(0, 3, 0.6), (2, 2, 0.2)]
    assert [one["number"] for one in tab.ask("mechanisms", run=RUN, sort="coherence")["rows"]] == [2, 0]
    assert [one["number"] for one in tab.ask("mechanisms", run=RUN, first=1)["rows"]] == [2]


def test_a_mechanism_together(tab):
    found = tab.ask("mechanism", run=RUN, number=0)

    assert names({"rows": found["members"]}) == [(CALLS[1], 1), (CALLS[0], 0), (CALLS[0], 2)]  # by firings
    together = found["together"]
    assert together["on"] == [{"token": 7, "text": " b", "members": 3, "precision": 0.5}]
    assert together["writes"] == [{"name": "cat", "weight": pytest.approx(-(1.5 + 0.5 + 2.5))}]
    assert together["windows"][0]["members"] == 3
    assert together["windows"][0]["importances"] == [0.0, 0.75, 0.125]
    assert tab.ask("mechanism", run=RUN, number=1)["kind"] == "gone"


def test_a_graph_s_strengths_follow_the_shares(tab):
    assert tab.ask("graphs", run=RUN)["graphs"] == [{"name": "text-1", "title": "a b"}]

    found = tab.ask("graph", run=RUN, name="text-1")

    assert found["nodes"]["through"] == [1.0, 0.75, 0.25, 0.0, 1.0]
    edges = list(zip(*(found["edges"][name] for name in ("source", "target", "strength")), strict=True))
    assert edges == [(0, 1, 0.75), (1, 4, 0.75), (0, 2, -0.25), (2, 4, 0.25)]
    assert (found["n_nodes"], found["n_edges"], found["tokens"]) == (5, 4, ["a", "b"])
    assert found["labels"] == {f"{CALLS[0]}:2": "on z2", f"{CALLS[0]}:3": "on x3"}
    assert found["output_names"] == {"1": "c"}


def test_a_graph_s_flow_is_that_of_its_analysis(tmp_path):
    """The tab computes it anew, without torch."""
    write_artefact(tmp_path / "run")
    draw = torch.Generator().manual_seed(2)
    place = torch.arange(4).repeat_interleave(5)
    pairs = torch.tensor([(s, t) for s in range(20) for t in range(20) if place[s] < place[t]]).T
    source, target = pairs[:, torch.rand(pairs.shape[1], generator=draw) < 0.4]
    signed = torch.randn(len(source), generator=draw, dtype=torch.float64)
    total = torch.zeros(20, dtype=torch.float64).index_add(0, target, signed.abs()) * 1.25  # some was not kept
    graph = AttributionGraph(
        ("in", "a", "b", "out"),
        kind=torch.tensor([0] * 5 + [1] * 10 + [4] * 5),
        place=place,
        index=torch.arange(20),
        position=torch.full((20,), -1),
        value=torch.rand(20, generator=draw, dtype=torch.float64),
        importance=torch.ones(20, dtype=torch.float64),
        entering=torch.zeros(20, dtype=torch.float64),
        total=total,
        source=source,
        target=target,
        signed=signed,
        absolute=signed.abs(),
        examples=3,
    )
    save_graph(graph, tmp_path / "run" / "analysis" / "graphs" / "drawn")

    found = Tab(tmp_path).ask("graph", run="run", name="drawn")

    through = influence(graph)
    np.testing.assert_allclose(found["nodes"]["through"], through.numpy(), rtol=1e-12)
    expected = through[target] * signed.abs() / total[target] * signed.sign()
    columns = (found["edges"][name] for name in ("source", "target", "strength"))
    given = {(s, t): one for s, t, one in zip(*columns, strict=True)}
    assert given == {
        (s, t): pytest.approx(one, rel=1e-12)
        for s, t, one in zip(source.tolist(), target.tolist(), expected.tolist(), strict=True)
    }
    strengths = np.abs(found["edges"]["strength"])
    assert (np.diff(strengths) <= 0).all()  # the page cuts the list at the threshold


def test_circuits_and_their_verdict(tab):
    assert tab.ask("circuits", run=RUN)["circuits"] == [{"name": "a_b", "title": "a b | wanted: c", "text": "a b"}]

    found = tab.ask("circuit", run=RUN, name="a_b")

    one = found["circuits"][0]
    assert (one["nodes"]["calls"], one["nodes"]["components"]) == ([1, 0], [4, 2])  # the strongest first
    assert one["outcomes"] == {"attacked": {"distance": 2.0, "right": 0.5}}
    assert found["labels"] == {f"{CALLS[1]}:4": "on y4", f"{CALLS[0]}:2": "on z2"}


def test_a_heat_map_s_columns_stand_in_its_order(tab):
    listed = tab.ask("heatmaps", run=RUN)
    assert listed["calls"] == [{"call": CALLS[0], "rows": 2, "count": COUNT}]
    assert (listed["rows"], listed["row_labels"], listed["step"]) == ("probes", ["p", "q"], 40)

    found = tab.ask("heatmap", run=RUN, call=CALLS[0])

    assert found["order"].tolist() == [5, 0, 1, 2, 3, 4]
    values = np.arange(12, dtype=np.float16).reshape(2, 6) / 12
    np.testing.assert_array_equal(found["values"], values[:, [5, 0, 1, 2, 3, 4]].astype(np.float32))
    assert tab.ask("heatmap", run=RUN, call=CALLS[1])["kind"] == "gone"


def test_runs_are_compared_component_by_component(tab):
    both = {"a": RUN, "b": "exp/version_1"}
    assert tab.ask("compare", **both)["sites"] == [
        {"site": site, "counts": [COUNT, COUNT], "matched": True} for site in SIZES
    ]

    found = tab.ask("pairs", site=CALLS[0], **both)

    living = np.flatnonzero(DENSITY[CALLS[0]])
    matrices = [
        np.stack([np.outer(V[:, n], U[n]).ravel() for n in living])
        for V, U in (vectors(seed)[CALLS[0]] for seed in (0, 1))
    ]
    units = [one / np.linalg.norm(one, axis=1, keepdims=True) for one in matrices]
    cosines = units[0] @ units[1].T
    rows, columns = linear_sum_assignment(cosines, maximize=True)
    expected = {(int(living[r]), int(living[c])): cosines[r, c] for r, c in zip(rows, columns, strict=True)}
    given = {(one["a"]["component"], one["b"]["component"]): one["cosine"] for one in found["pairs"]}
    assert given == {pair: pytest.approx(cosine, abs=1e-5) for pair, cosine in expected.items()}
    assert found["mean"] == pytest.approx(np.mean(list(expected.values())), abs=1e-5)
    assert found["alone"] == {"a": [], "b": []}
    with_itself = tab.ask("pairs", a=RUN, b=RUN, site=CALLS[1])
    assert all(one["a"]["component"] == one["b"]["component"] for one in with_itself["pairs"])
    assert with_itself["mean"] == pytest.approx(1, abs=1e-6)


def test_what_one_run_has_more_is_listed_apart(tmp_path):
    for name in "ab":
        write_artefact(tmp_path / name)
        write_pictures(tmp_path / name)
    more = {**DENSITY, CALLS[0]: np.ones(COUNT, np.float32)}
    save_file(more, tmp_path / "a" / "analysis" / "density.safetensors")

    found = Tab(tmp_path).ask("pairs", a="a", b="b", site=CALLS[0])

    assert [one["component"] for one in found["alone"]["a"]] == [1, 4]
    assert found["alone"]["b"] == []
    assert found["alive"] == [6, 4]


def test_the_page_is_served_and_nothing_else(tab):
    for name, kind in (
        ("index.js", "text/javascript"),
        ("static/style.css", "text/css"),
        ("static/api.js", "text/javascript"),
    ):
        found = tab.response(name)
        assert found.status_code == 200
        assert found.headers["Content-Type"].startswith(kind)
    for name in ("static/plugin.py", "static/../plugin.py", "static/%2e%2e/plugin.py", "static/"):
        assert tab.response(name).status_code == 404
