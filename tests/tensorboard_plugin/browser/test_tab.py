"""Every view of the Components tab, reached by clicks and keys and held against the run's files."""

import re
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.tensorboard_plugin.browser.kept import Kept, best_cosines
from tests.tensorboard_plugin.browser.runs import EVIL
from tests.tensorboard_plugin.browser.tab import MINUS, Tab, numeric, texts_of

pytestmark = pytest.mark.slow
VIEWS = ("overview", "component", "mechanism", "graph", "heatmap", "compare")
TOY, OTHER, HOSTILE = "toy/seed_0", "toy/seed_1", "<b>hostile&amp;\"'"


def about(values):
    """Numbers as the tab writes them, with three digits."""
    return pytest.approx(values, rel=6e-3, abs=1e-9)


@pytest.fixture
def toy(logdir):
    """The files of a toy's run."""
    return Kept(logdir / TOY)


@pytest.fixture
def language(logdir):
    """The files of a language model's run."""
    return Kept(logdir / "language")


def test_the_tab_is_opened_by_a_click_and_listens_to_keys_at_once(chromium, address):
    page = chromium.new_context(viewport={"width": 1280, "height": 720}).new_page()
    page.goto(address)
    page.get_by_text("Components", exact=True).first.click()
    other = Tab(page)
    other.rows()

    other.until(lambda: other.press("5") or other.view == "heatmap")
    page.get_by_text("Components", exact=True).first.click()  # it is open already
    other.until(lambda: other.press("1") or other.view == "overview")
    other.press("/")
    page.keyboard.type("nothing is called so")
    other.see("No component is like that.")
    page.context.close()


def test_the_overview_says_what_the_run_found(tab, toy):
    tab.open(TOY)
    scores = toy.json("metrics.json")["scores"]

    l0, alive = (sum(scores[f"{name}/linear{n}"] for n in (1, 2)) for name in ("l0", "alive"))
    assert numeric(tab.find(".stat", "L0").first.inner_text()) == about(l0)
    assert tab.find(".stat", "alive").first.inner_text().split()[:3] == [str(int(alive)), "/", "12"]
    answers = [finding["answer"] for finding in toy.json("metrics.json")["verdict"]]
    assert [text[2:] for text in tab.find(".stat .chip").all_inner_texts()] == answers


def test_the_list_has_every_live_component_the_most_frequent_first(tab, toy):
    tab.open(TOY)
    expected = toy.most_frequent()

    names = tab.column("component", len(expected))

    assert set(names) == {name for name, _ in expected}
    assert list(map(numeric, tab.column("density"))) == about([density for _, density in expected])
    mean = {f"{call}:{n}": row["mean_importance"] for (call, n), row in toy.harvest().items()}
    shown = dict(zip(names, tab.column("mean"), strict=True))
    assert {name for name, text in shown.items() if text.strip()[:1].isdigit()} == mean.keys() & set(names)
    assert [numeric(shown[name]) for name in names if name in mean] == about([mean[n] for n in names if n in mean])


def test_the_list_is_filtered_sorted_and_searched(tab, toy):
    tab.open(TOY)
    names = [name for name, _ in toy.most_frequent()]
    tab.rows(len(names))

    tab.find("select[aria-label=site]").select_option("linear2")
    second = [name for name in names if name.startswith("linear2:")]
    assert {row[0] for row in tab.rows(len(second))} == set(second)
    tab.find(".list-head button", "component").click()
    tab.until(lambda: tab.column("component") == sorted(second))
    tab.find("select[aria-label=site]").select_option("")
    tab.rows(len(names))
    tab.find("main").focus()
    tab.press("/")
    tab.page.keyboard.type(names[0])
    assert [row[0] for row in tab.rows(1)] == names[:1]


def test_the_slider_goes_through_saved_validations(tab, toy):
    tab.open(TOY)
    tab.rows()
    tab.slide("step", 0)

    tab.see("step 2")
    expected = toy.most_frequent(step=2)
    densities = about([density for _, density in expected])
    tab.until(lambda: list(map(numeric, tab.column("density"))) == densities)


def test_a_component_is_opened_by_a_click_and_shows_its_vectors(tab, toy):
    tab.open(TOY)
    name = tab.rows()[1][0]
    tab.find(".row").nth(1).click()
    site, number = name.split(":")

    tab.component(name)
    sides = zip(("Reads", "Writes"), ("input", "output"), toy.vectors(site, int(number)), strict=True)
    for title, word, vector in sides:
        largest = int(np.abs(vector).argmax())
        said = tab.card(title).locator(".readout").inner_text()
        assert said.startswith(f"largest {word} {largest}: ")
        assert numeric(said.rpartition(": ")[2]) == about(vector[largest])
    assert tab.card("Inner activation").locator("circle").count() == len(toy.harvest()[site, int(number)]["places"])
    assert tab.card("Importance").locator("rect").count() == 20


def test_a_component_s_card_says_what_ablating_it_changes(tab, toy):
    kept = toy.arrays("ablations")
    distance = kept["distance/linear1"]
    number = int(np.nanargmax(distance))

    tab.open(TOY, "component", call="linear1", component=number)
    tab.component(f"linear1:{number}")

    told = tab.card("Ablated alone").inner_text()
    found = re.search(r"output by (\S+); 1st of (\d+)", told)
    assert numeric(found[1]) == about(distance[number])
    assert int(found[2]) == np.isfinite(distance).sum()
    change = kept["change/linear1"][number]
    assert numeric(re.search(rf"largest output {change.argmax()}: (\S+)", told)[1]) == about(change.max())


def test_what_was_not_ablated_is_not_made_up(tab, logdir):
    path = logdir / OTHER / "analysis/ablations.safetensors"
    kept = load_file(path)
    kept["change/linear1"][2], kept["distance/linear1"][2] = np.nan, np.nan
    save_file(kept, path, {"ablations": "{}"})

    tab.open(OTHER, "component", call="linear1", component=2)
    tab.component("linear1:2")

    assert not re.search("moves the output|NaN|\N{EN DASH};", tab.card("Ablated alone").inner_text())


def test_arrows_go_to_the_neighbours_and_escape_goes_back(tab, toy):
    first, second, *_ = np.flatnonzero(toy.arrays("density")["linear1"]).tolist()
    tab.open(TOY, "component", call="linear1", component=first)
    tab.see(f"linear1:{first}", "h2", exact=True).click()

    tab.press("ArrowRight")
    tab.component(f"linear1:{second}")
    tab.press("ArrowLeft")
    tab.component(f"linear1:{first}")
    tab.press("Escape")
    tab.shows("overview")
    tab.page.go_back()
    tab.component(f"linear1:{first}")


def test_the_keyboard_alone_opens_a_component_and_every_view(tab):
    tab.open(TOY)
    name = tab.rows()[2][0]
    tab.find("main").focus()

    tab.press("ArrowDown", "ArrowDown", "ArrowDown", "ArrowDown", "ArrowDown", "ArrowUp", "ArrowUp", "Home")
    tab.press("ArrowDown", "ArrowDown", "Enter")

    tab.component(name)
    for key, view in zip("123456", VIEWS, strict=True):
        tab.press(key)
        tab.shows(view)
    tab.press("?")
    tab.see("search components", "dialog")
    tab.press("Escape")


def test_what_a_site_of_pixels_reads_is_an_image(tab, logdir):
    read, _ = Kept(logdir / "image").vectors("fc1", 1)
    tab.open("image", "component", call="fc1", component=1)
    tab.component("fc1:1")

    picture = tab.find("[aria-label='read vector'] canvas").first
    picture.wait_for()
    box = picture.bounding_box()
    assert box["width"] / box["height"] == pytest.approx(5 / 4, rel=0.05)
    picture.hover(position={"x": box["width"] * 0.5, "y": box["height"] * 0.375})  # the second row, the third pixel
    said = tab.see("pixel 1, 2", ".card").inner_text()
    assert numeric(said.rpartition(": ")[2]) == about(read[1 * 5 + 2])
    tab.open("image", "component", call="fc2", component=1)
    tab.component("fc2:1")
    tab.card("Reads").locator(".readout", has_text="largest input").wait_for()


def test_tokens_of_a_language_model_s_component(tab, language):
    (call, number), row = max(language.harvest().items(), key=lambda item: item[1]["firings"])
    tab.open("language", "component", call=call, component=number)
    tab.component(f"{call}:{number}")

    shown, place = tab.card("Where it is important").locator("tr").nth(1), row["places"][0]
    assert numeric(shown.locator("td").nth(0).inner_text()) == about(place["inner"])
    tokens = shown.locator(".token")
    assert [text.replace("␣", " ") for text in tokens.all_text_contents()] == place["texts"]
    assert shown.locator(".token.place").text_content().replace("␣", " ") == place["texts"][place["at"]]
    shaded = tokens.evaluate_all("all => all.map(one => one.style.backgroundColor !== '')")
    assert shaded == [importance > 0.005 for importance in place["importances"]]
    shares = tab.card("Fires on").locator("td.number").all_inner_texts()
    assert list(map(numeric, shares)) == about([one["precision"] for one in row["on"]])
    labels = language.json("analysis/labels.json")["labels"]
    (label,) = (one["label"] for one in labels if (one["call"], one["component"]) == (call, number))
    assert tab.find(".title .label").inner_text() == label


def test_components_that_fire_together_are_links(tab, language):
    (call, number), row = next(item for item in language.harvest().items() if item[1]["together"])
    tab.open("language", "component", call=call, component=number)
    tab.component(f"{call}:{number}")
    other = "{site}:{component}".format(**row["together"][0])

    link = tab.card("Fires together with").locator("a").first
    assert link.get_attribute("title") == other
    link.click()

    tab.component(other)


def test_ends_of_the_network_are_named(tab, toy):
    row = next(row for row in toy.harvest().values() if row.get("reads"))
    tab.open(TOY, "component", call=row["call"], component=row["component"])
    tab.component(f"{row['call']}:{row['component']}")

    box = tab.card("Strongest inputs")
    assert box.locator("td.name").all_inner_texts() == [one["name"] for one in row["reads"]]
    values = box.locator("td.number").all_inner_texts()
    assert list(map(numeric, values)) == about([one["weight"] for one in row["reads"]])


def test_a_mechanism_and_its_members(tab, language):
    content = language.json("analysis/mechanisms.json")
    tab.open("language")
    tab.rows()
    tab.find("header a", "Mechanism").click()

    tab.see("Mechanism", "h2")
    heading = tab.find("h2", "Mechanism").first.inner_text()
    group = content["groups"][int(heading.split()[1])]
    members = {f"{site}:{number}" for site, numbers in group["components"].items() for number in numbers}
    assert len(members) > 1
    size, share, coherence = tab.find(".title .chip").all_inner_texts()
    assert size.startswith(str(len(members)))
    assert numeric(share.removeprefix("at ")) == about(group["firings"] / content["settings"]["n_units"])
    assert numeric(coherence.removeprefix("coherence ")) == pytest.approx(group["coherence"], rel=0.02)
    links = tab.card("Members").locator("a")
    assert set(links.evaluate_all("links => links.map(link => link.title)")) == members
    assert tab.card("Where most members are important").locator(".token").count() > 0
    name = links.first.get_attribute("title")
    links.first.click()
    tab.component(name)
    tab.find("a.chip", heading.lower()).click()
    tab.see(heading, "h2")


def _edges(tab):
    """Edges and nodes that a graph shows, each with how many there are."""
    told = tab.see("edges above", ".filters").inner_text().replace("\u2009", "")
    return [int(number) for pair in re.findall(r"(\d+) of (\d+)", told) for number in pair]


def test_a_graph_and_its_threshold(tab, language):
    graph, _ = language.graph()
    tab.open("language", "graph")

    edges, of, _, of_nodes = _edges(tab)
    assert (of, of_nodes) == (len(graph["source"]), len(graph["kind"]))
    told = tab.see("edges above", ".filters").inner_text()
    tab.slide("threshold", 900)
    tab.eventually("([before]) => !document.querySelector('.filters').textContent.includes(before)", told)
    assert 0 < _edges(tab)[0] < edges
    assert "threshold=" in tab.page.url
    tab.slide("threshold", 0)
    tab.eventually("() => document.querySelector('.filters').textContent.includes('above 0 %')")
    assert _edges(tab)[0] == of


def test_nodes_of_a_graph_say_their_numbers_and_open_their_card(tab, language):
    graph, notes = language.graph()
    tab.open("language", "graph")
    tab.see("edges above", ".filters")

    found = [(text, at) for text, at in tab.pointed(7, 8) if re.match(r"\S*mlp.c_fc:\d+ @ ", text) and "passes" in text]
    text, (x, y) = found[0]
    name, place, index, position = re.match(r"((\S+):(\d+)) @ (\d+)", text).groups()
    where = {"place": notes["places"].index(place), "index": int(index), "position": int(position)}
    (node,) = np.flatnonzero(np.all([graph[column] == value for column, value in where.items()], 0))
    value, importance = re.search(r"value (\S+), importance (\S+),", text).groups()
    assert numeric(value) == about(graph["value"][node])
    assert numeric(importance) == about(graph["importance"][node])
    tab.find(".stage canvas").click(position={"x": x, "y": y})
    tab.component(name)


def test_a_circuit_stands_beside_its_graph_with_the_adversary_s_verdict(tab, language):
    content = language.json("analysis/circuits/the_cat_saw_a.json")
    tab.open("language", "graph")

    rows = {cells[0]: cells[1:] for cells in texts_of(tab.card("Circuit").locator("table.verdict tr"))}
    for column, circuit in enumerate(content["circuits"].values()):
        assert int(rows["nodes"][column]) == sum(circuit["nodes"])
        for words, regime in (("alone", "alone"), ("fresh adversary", "attacked"), ("taken away", "ablated")):
            distances = circuit["outcomes"][regime]["distance"]
            assert numeric(rows[words][column]) == about(sum(distances) / len(distances))


def test_a_circuit_without_a_graph(tab, logdir):
    content = Kept(logdir / "induction").json("analysis/circuits/example_0.json")
    tab.open("induction", "graph")

    tab.see("python -m spd_lightning.analysis graph", ".stage")
    links = tab.card("Circuit").locator("a")
    assert links.count() == sum(next(iter(content["circuits"].values()))["nodes"])
    name = links.first.get_attribute("title")
    links.first.click()
    tab.component(name)


def _cells(tab):
    """What a heat map says, by row and component, with a place of each."""
    said = {}
    for text, at in tab.pointed(40, 30):
        component, row, value = re.match(r"component (\d+) · \w+ (\d+).*\nimportance (\S+)", text, re.S).groups()
        said[int(row), int(component)] = numeric(value), at
    return said


def test_the_heat_map_of_a_toy_shows_every_importance_in_the_order_that_matches(tab, toy):
    kept = toy.arrays("importances")
    values, order = kept["values/linear1"], kept["order/linear1"].tolist()
    tab.open(TOY, "heatmap", map="linear1")
    tab.see("probes \N{MULTIPLICATION SIGN} components")

    in_use = np.flatnonzero(values.max(0) > 0.1).tolist()
    _check_cells(_cells(tab), values, [component for component in order if component in in_use])
    tab.find("label", "unused components too").click()
    tab.eventually("() => document.querySelectorAll('.stage canvas').length === 1")
    _check_cells(_cells(tab), values, order)


def _check_cells(said, values, order):
    assert set(said) == {(row, component) for row in range(len(values)) for component in order}
    for place, (value, _) in said.items():
        assert value == pytest.approx(max(0, values[place]), rel=1e-2, abs=1e-6)
    assert sorted(order, key=lambda component: said[0, component][1][0]) == order


def test_the_heat_map_is_zoomed_and_opens_a_component(tab):
    tab.open(TOY, "heatmap", map="linear1")
    whole = _cells(tab)

    tab.find("main").focus()
    tab.press("+", "+", "+")
    assert 0 < len(_cells(tab)) < len(whole)
    tab.press("0")
    assert _cells(tab) == whole
    (_, component), (_, (x, y)) = next(iter(whole.items()))
    tab.find(".stage canvas").click(position={"x": x, "y": y})
    tab.component(f"linear1:{component}")


def test_rows_of_a_language_model_s_heat_map_are_its_tokens(tab, language):
    tokens = language.row_labels()
    tab.open("language", "heatmap", map="transformer.h.0.mlp.c_fc")

    tab.see("positions \N{MULTIPLICATION SIGN} components")
    pairs = (re.match(r"component \d+ · position (\d+) (.*)\n", text).groups() for text, _ in tab.pointed(60, 12))
    said = {int(row): token.replace("␣", " ") for row, token in pairs}
    assert [said[row] for row in range(len(tokens))] == tokens


def test_two_seeds_are_compared(tab, logdir):
    expected = best_cosines(Kept(logdir / TOY), Kept(logdir / OTHER), "linear1")
    tab.open(TOY, "compare", other=OTHER, site="linear1")

    told = tab.see("mean cosine", ".pairs").inner_text()
    assert numeric(re.search(rf"mean cosine ([{MINUS}\d.]+)", told)[1]) == pytest.approx(np.mean(expected), rel=1e-2)
    shown = [numeric(text) for row in tab.rows() for text in row[1:2] if re.search(r"\d", text)]
    assert shown == pytest.approx(expected, rel=1e-2, abs=1e-3)
    tab.find(".pairs .row").first.click()
    tab.shows("component")


def test_a_link_opens_the_same_view(tab, chromium):
    tab.open(TOY, "heatmap", map="linear2", step=2)
    tab.see("step 2", ".filters")
    page = chromium.new_context(viewport={"width": 1280, "height": 720}).new_page()
    page.goto(tab.page.url)

    other = Tab(page)
    other.shows("heatmap")
    other.see("step 2", ".filters")
    assert other.find("select[aria-label=site]").input_value() == "linear2"
    page.context.close()


@pytest.mark.parametrize("view", VIEWS)
def test_hostile_texts_are_shown_and_nothing_runs(tab, view):
    tab.open(HOSTILE, view)
    if view in ("overview", "component", "mechanism", "graph"):
        tab.eventually("([text]) => document.querySelector('main').textContent.includes(text)", EVIL[:20])
    tab.frame.wait_for_timeout(300)  # what would run has had the time

    assert tab.find("select[aria-label=run]").first.input_value() == HOSTILE
    assert tab.frame.locator("main img, main script, header b").count() == 0
    assert tab.frame.evaluate("window.evil") is None


def test_marks_of_direction_are_made_visible(tab):
    tab.open(HOSTILE)

    labels = tab.column("label")
    assert "\\u202eevil\\u200f" in labels
    assert not any(sign in label for label in labels for sign in "\u202e\u200f")
    heights = tab.frame.locator(".row").evaluate_all("rows => rows.map(row => row.offsetHeight)")
    assert len(set(heights)) == 1  # a label of 10 000 signs takes no more room than any other


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("run", [TOY, "language"])
def test_everything_fits_the_page(tab, view, run):
    tab.open(run, view)
    tab.frame.wait_for_timeout(200)

    page = "document.documentElement"
    assert tab.frame.evaluate(f"{page}.scrollWidth - {page}.clientWidth") == 0


RUNS = "Array.from(document.querySelector('select[aria-label=run]').options, one => one.value)"


def test_a_new_run_is_noticed_and_one_that_goes_too(tab, logdir):
    tab.open("image")
    tab.rows()
    shutil.copytree(logdir / "image", logdir / "late")

    tab.eventually(f"() => {RUNS}.includes('late')")
    tab.find("select[aria-label=run]").first.select_option("late")
    tab.rows()
    assert "late" in tab.page.url
    shutil.rmtree(logdir / "late")
    tab.see("There is no run late", "main")
    tab.open("image")
    assert len(tab.rows()) > 0


def test_a_run_that_goes_on_is_shown_anew(tab, logdir):
    tab.open("image")
    tab.rows()
    path = logdir / "image/analysis/density.safetensors"
    kept = load_file(path)
    kept["fc1"][:] = [0.5, 0.25, 0.125, 0.0625]
    save_file(kept, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)

    tab.eventually("() => document.querySelector('.rows')?.textContent.includes('6.25 %')")


def test_light_and_dark_follow_tensorboard(tab):
    tab.open(TOY)
    tab.rows()

    def brightness(which):
        text = tab.frame.evaluate("which => getComputedStyle(document.body)[which]", which)
        return sum(map(int, re.findall(r"\d+", text)[:3])) / (3 * 255)

    assert brightness("backgroundColor") > 0.85 > 0.3 > brightness("color")
    tab.page.evaluate("document.body.classList.add('dark-mode')")
    tab.eventually("() => document.documentElement.dataset.theme === 'dark'")
    assert brightness("backgroundColor") < 0.25 < 0.6 < brightness("color")
    tab.page.evaluate("document.body.classList.remove('dark-mode')")
    tab.eventually("() => document.documentElement.dataset.theme === 'light'")


def test_ten_thousand_rows_are_scrolled_without_gaps(tab, logdir):
    (logdir / "long/analysis").mkdir(parents=True)
    density = np.linspace(1, 0.5, 10_000, dtype=np.float32)
    save_file({"site": density}, logdir / "long/analysis/density.safetensors")
    tab.open("image")
    tab.eventually(f"() => {RUNS}.includes('long')")
    tab.open("long")

    tab.see("10\u2009000 components")
    for top in (0, 20_000, 123_456, 200_000, 10_000 * 28, 57):
        first, last, names = tab.scrolled(top)
        assert names == [f"site:{number}" for number in range(first, min(last, 9_999) + 1)]
