"""Cards: what they say, against files that are written by hand, and that nothing in these can do more than be read."""

import json

import pytest

from spd_lightning.report.__main__ import main
from spd_lightning.report.cards_page import bars
from tests.analysis.rows import row, text_place
from tests.report.reader import Page

TOKEN = {"token": 5, "text": " dog", "precision": 0.75, "recall": 0.5, "pmi": 1.25}
ENDS = {
    "reads": [{"index": 3, "name": "input 3", "weight": -0.98}],
    "writes": [{"index": 4, "name": "output 4", "weight": 1.5}],
}
WEIGHTS = {"format": 1, "weights": "f00"}


def _rows():
    one = text_place(["The", " big", " dog", " ran"], at=2, document=7)
    one["importances"] = [0.0, 0.13, 0.99, 0.5]
    other = {"site": "linear2", "component": 1, "share": 0.42, "jaccard": 0.3}
    return [
        row(
            call="linear1", component=0, on=[TOKEN], together=[other], places=[one, text_place(["x"], at=0, document=8)]
        ),
        row(call="linear2", component=1, density=0.5, **ENDS, places=[{"example": 12, "document": 12, "inner": -1.5}]),
    ]


class _Run:
    def __init__(self, folder):
        self.folder, self.analysis = folder / "tiny" / "version_0", folder / "tiny" / "version_0" / "analysis"
        self.analysis.mkdir(parents=True)
        self.harvest(_rows())

    def harvest(self, rows):
        (self.analysis / "harvest.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))

    def write(self, name, **content):
        (self.analysis / name).write_text(json.dumps(WEIGHTS | content))

    def labels(self, *labels):
        entries = [{"call": call, "component": number, "label": label} for call, number, label in labels]
        self.write("labels.json", labeller="small at http://a/v1", labels=entries)

    def mechanisms(self, *groups):
        entries = [{"firings": 30, "coherence": 0.8, "components": members} for members in groups]
        self.write("mechanisms.json", settings={"threshold": 0.1, "n_units": 120}, groups=entries)

    def page(self):
        main([str(self.folder), "--cards"])
        self.source = (self.analysis / "cards.html").read_text()
        return Page(self.source)


@pytest.fixture
def run(tmp_path):
    return _Run(tmp_path)


@pytest.fixture
def refused(run, capsys):
    """The one line of a command that must be refused."""

    def command(*options):
        with pytest.raises(SystemExit) as stopped:
            main([str(run.folder), "--cards", *options])
        told = capsys.readouterr().err
        assert (stopped.value.code, told.count("\n")) == (2, 1)
        return told

    return command


def test_a_component_s_card_says_what_the_harvest_says(run, capsys):
    text = run.page().text
    assert capsys.readouterr().out == f"The cards are in {run.analysis / 'cards.html'}\n"
    assert text.startswith("tiny/version_0: cards tiny/version_0: components 2 of 2 components")
    first, second = text.split("linear2:1 important at")
    for said in ("linear1:0 important at 25.000%", "mean importance 0.2", "above 0 100%", "its size 0.5"):
        assert said in first
    assert "linear2:1 (42%)" in " ".join(first.split())
    assert "The big dog ran" in " ".join(first.split())
    assert "50.000%" in second
    assert "Reads of the input: input 3 -0.98" in " ".join(second.split())
    assert "Writes to the output: output 4 1.50" in " ".join(second.split())
    assert "Strongest examples, with the inner activation: 12 (-1.50)" in second
    assert run.page().table("Important on") == [[" dog", "75%", "50%", "1.25"]]


def test_tokens_are_shaded_by_importance_and_the_place_is_marked(run):
    page = run.page()
    kinds = [value for name, value in page.attributes if name == "class" and value.startswith("shade-")]
    assert kinds == ["shade-0", "shade-1", "shade-8 place", "shade-4", "shade-8 place"]
    assert all(f".{kind.split()[0]} " in run.source for kind in kinds if kind != "shade-0")
    assert [value for name, value in page.attributes if name == "title"] == ["0.00", "0.13", "0.99", "0.50", "1.00"]


def test_partners_lead_to_their_cards(run):
    page = run.page()
    links = [value for name, value in page.attributes if name == "href"]
    anchors = [value for name, value in page.attributes if name == "id"]
    assert links == ["#component-0"]  # the densest card is numbered first
    assert anchors == ["component-1", "component-0"]


def test_labels_mechanisms_and_the_intruder_test_are_shown_where_there_are_any(run):
    run.labels(("linear1", 0, "about dogs"))
    run.mechanisms({"linear1": [0], "linear2": [1, 9]}, {"linear1": [3]})
    score = {"right": 6, "count": 10, "share": 0.6, "low": 0.31, "high": 0.83}
    run.write("intruders.json", judge="shared tokens", chance=0.2, score=score, answers=[])
    text = run.page().text
    assert "labels from small at http://a/v1" in text
    assert "intruder test: 60% right of 10 (95 % interval 31% to 83%, chance 20%), judge: shared tokens" in text
    mechanism, components = text.split("Mechanism 0 ")[1].split(" Components ")
    mechanism = " ".join(mechanism.split())
    assert mechanism.startswith("members 3 important at 25.000% members together 80% linear1:0 about dogs , linear2:1")
    assert "linear2:9" in mechanism
    assert "The big dog ran" in mechanism
    assert "about dogs" in components
    assert "Mechanism 1" not in text  # a single component


HOSTILE = [
    "<script>alert(1)</script>",
    "</p></article><img src=x onerror=alert(1)>",
    "\"' onmouseover='alert(1)",
    "\u202eabc\u202d\u2066\u200f\u061c",
    "\x00\x1b[31m\ud800",
    "\n\t\r\u2028",
    "&lt;b&gt;",
    "x" * 10_240,
    "]]>-->",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_whatever_files_hold_is_text(run, text):
    """``Page`` refuses scripts, handlers, what loads anything, and elements that are not closed."""
    place = text_place(["a", text], at=1)
    end = [{"index": 0, "name": text, "weight": 1.0}]
    partner = {"site": text, "component": 0, "share": 0.5, "jaccard": 0.5}
    hostile = row(call=text, on=[TOKEN | {"text": text}], reads=end, writes=end, together=[partner], places=[place])
    run.harvest([hostile])
    run.labels((text, 0, text))
    run.mechanisms({text: [0, 1]})
    run.write(
        "intruders.json",
        judge=text,
        chance=0.2,
        score={"count": 1, "share": 1, "low": 0, "high": 1, "right": 1},
        answers=[],
    )
    page = run.page()
    shown = page.text
    assert not set("\u202e\u202d\u2066\u200f\u061c\x00\x1b") & set(run.source)
    assert len(run.source) < 40_000
    if text.isascii() and text.isprintable() and len(text) < 100:
        assert shown.count(text) >= 8
    if len(text) > 10_000:
        assert "x" * 199 + "…" in shown
        assert "x" * 201 not in run.source


def test_only_so_many_cards_are_on_a_page(run):
    from spd_lightning.report.cards_data import cards_data
    from spd_lightning.report.cards_page import cards_page

    run.harvest([row(component=number, density=number / 10) for number in range(9)])
    page = Page(cards_page("tiny", cards_data(run.folder), shown=3))
    assert "3 of 9 components that are important anywhere, those that are important most often" in page.text
    assert [f"a:{number} important" in page.text for number in range(9)] == [False] * 6 + [True] * 3


def test_bars_are_of_counts():
    assert bars([0, 1, 100, 25]) == "\N{FIGURE SPACE}▂█▅"
    assert bars([0, 0]) == "\N{FIGURE SPACE}" * 2
    assert len(bars([3] * 20)) == 20


def test_without_a_harvest_there_are_no_cards(run, refused):
    (run.analysis / "harvest.jsonl").unlink()
    assert "does not exist; python -m spd_lightning.analysis harvest makes one" in refused()


@pytest.mark.parametrize("name", ["labels.json", "mechanisms.json", "intruders.json"])
@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"weights": 3}', "[" * 100_000, '{"groups": [{"components": 3}]}']
)
def test_a_damaged_file_is_one_line(run, refused, name, content):
    (run.analysis / name).write_text(content)
    assert f"{name}' is damaged" in refused()


def test_groups_of_anything_but_numbers_are_damage(run, refused):
    run.mechanisms({"linear1": ["0", "1"]})
    assert "mechanisms.json' is damaged" in refused()


def test_files_of_different_weights_are_refused(run, refused):
    run.labels()
    run.mechanisms()
    path = run.analysis / "labels.json"
    path.write_text(path.read_text().replace("f00", "f01"))
    assert "are of different weights; move the older ones away" in refused()


def test_a_link_that_leads_out_is_not_followed(run, refused, tmp_path):
    (tmp_path / "elsewhere.json").write_text("{}")
    (run.analysis / "labels.json").symlink_to(tmp_path / "elsewhere.json")
    assert "is a link that leads out of the run directory" in refused()


def test_several_runs_are_refused(run, capsys):
    with pytest.raises(SystemExit):
        main([str(run.folder), str(run.folder), "--cards"])
    assert "--cards takes one RUN_DIR, got 2" in capsys.readouterr().err


def test_files_of_others_are_refused(run, refused, tmp_path):
    (tmp_path / "mine.html").write_text("mine")
    assert "exists and is not a report" in refused("--output", str(tmp_path / "mine.html"))
    main([str(run.folder), "--cards", "--output", str(tmp_path / "page.html")])
    assert Page((tmp_path / "page.html").read_text())
