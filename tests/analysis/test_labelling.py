"""Labels from statistics and from a server, the command that writes them, and the intruder test."""

import json
import math
import os
import re
from types import SimpleNamespace

import pytest
import torch

from spd_lightning import UsageError
from spd_lightning.analysis.__main__ import main
from spd_lightning.analysis.chat import KEY_VARIABLE, ChatServer
from spd_lightning.analysis.chat import time as time_of_chat
from spd_lightning.analysis.chat_labels import ChatJudge, ChatLabeller
from spd_lightning.analysis.firings import Firings
from spd_lightning.analysis.intruders import TokenJudge, Trial, score, trials
from spd_lightning.analysis.labelling import StatisticsLabeller, described, repeated, shortened, window_of
from tests.analysis.chat_server import chat, serving
from tests.analysis.rows import row, text_place

ON = {"token": 1, "text": " the", "precision": 0.9, "recall": 0.8, "pmi": 2.0}
BEFORE = {"token": 2, "text": "\n", "precision": 0.2, "recall": 0.1, "pmi": 1.0}


def _end(name, weight):
    return {"index": 0, "name": name, "weight": weight}


@pytest.mark.parametrize(
    ("given", "label"),
    [
        ({"on": [ON], "before": [BEFORE]}, "on '␣the'"),
        ({"on": [BEFORE], "before": [ON, ON | {"text": "a", "precision": 0.7}]}, "before '␣the'/'a'"),
        ({"on": [ON, BEFORE]}, "on '␣the'"),
        ({"on": [{"token": 7, "precision": 1.0, "recall": 1.0}]}, "on token:7"),
        (
            {"reads": [_end("input 3", -0.9), _end("input 1", 0.5), _end("input 2", 0.1)]},
            "reads input 3,\N{MINUS SIGN}1",
        ),
        ({"reads": [_end("pixel 1,2", 1.0)], "writes": [_end("output 4", 2.0)]}, "reads pixel 1,2, writes output 4"),
        ({"writes": [_end(f"output {n}", 1.0) for n in range(5)]}, "writes output 0,1,2+2"),
        (
            {"writes": [_end(" dog", -2.0), _end("cat", 1.5), _end("a b", -1.5)]},
            "writes '␣dog'/\N{MINUS SIGN}'cat'/'a␣b'",
        ),
        ({"writes": [_end("output 1", 0.0)]}, "important at 25.00% of positions"),
        ({"on": [], "before": []}, "important at 25.00% of positions"),
        ({}, "important at 25.00% of positions"),
    ],
)
def test_statistics_name_what_is_strongest(given, label):
    assert StatisticsLabeller().label(row(**given)) == label


@pytest.mark.parametrize(
    "text",
    ["<script>alert(1)</script>", "a b c d e f g h i j", "x" * 10_000, "\x1b[31mred\x07", "\u202eabc\u200f", "\n\n"],
)
def test_labels_are_short_and_plain_whatever_tokens_hold(text):
    label = StatisticsLabeller().label(row(on=[ON | {"text": text}]))
    assert 0 < len(label) <= 100
    assert len(label.split()) <= 8
    assert label.isprintable()
    assert shortened("a  b\tc\nd e f g h i") == "a b c d e f g h"


def test_a_component_is_described_by_what_the_harvest_has():
    places = [text_place(["a", " b", " c"], at=1), {"example": 0, "position": 0, "document": 0}]
    told = described(row(on=[ON], reads=[_end("input 3", -0.9)], places=places))
    assert "active at 25.00% of positions" in told
    assert "on a token: '␣the' (90%)" in told
    assert "reads most strongly: 'input 3' (-0.90)" in told
    assert told.endswith("1. 'a[[ b]] c'")
    assert window_of(text_place([str(number % 10) for number in range(40)], at=20), reach=2) == "89[[0]]12"
    assert window_of({"texts": ["a"], "at": 5}) == ""


def test_labels_that_are_not_unique_are_counted():
    assert repeated(["a", "b", "a", "c", "b", "a"]) == 5


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("the word dog", "the word dog"),
        ('"Quoted words."', "Quoted words"),
        ("\n**Bold**\nAnd an explanation.", "Bold"),
        ("one two three four five six seven eight nine", "one two three four five six seven eight"),
        ("<think>long</think>cats", "cats"),
    ],
)
def test_a_server_s_words_are_the_label(answer, label):
    with serving(lambda question, number: chat(answer)) as served:
        labeller = ChatLabeller(ChatServer(served.address, "small"))
        assert labeller.label(row(on=[ON])) == label
    assert labeller.name == f"small at {served.address}"
    assert described(row(on=[ON])) in served.questions[0]


@pytest.mark.parametrize("answer", ["", "...", "\n \n", "\u200f"])
def test_an_answer_without_words_is_none(answer):
    with (
        serving(lambda question, number: chat(answer)) as served,
        pytest.raises(UsageError, match="the answer holds no words"),
    ):
        ChatLabeller(ChatServer(served.address, "small", retries=0)).label(row())


TRIAL = Trial("a", 0, 1, 2, [text_place([word], at=0) for word in "vwxyz"])


@pytest.mark.parametrize(("answer", "odd"), [("3", 2), ("Window 5.", 4), ("1\n1", 0)])
def test_a_server_judges_windows(answer, odd):
    with serving(lambda question, number: chat(answer)) as served:
        assert ChatJudge(ChatServer(served.address, "small")).odd_one(TRIAL) == odd
    assert "3. '[[x]]'" in served.questions[0]


@pytest.mark.parametrize("answer", ["", "none", "0", "6", "2 or 3", "9" * 300, "²"])
def test_an_answer_without_one_number_is_none(answer):
    with (
        serving(lambda question, number: chat(answer)) as served,
        pytest.raises(UsageError, match="the answer is no number from 1 to 5"),
    ):
        ChatJudge(ChatServer(served.address, "small", retries=0)).odd_one(TRIAL)


@pytest.mark.parametrize(("right", "count"), [(0, 10), (3, 10), (10, 10), (57, 200)])
def test_the_interval_is_where_the_truth_would_not_be_surprised(right, count):
    """Wilson: its ends are the shares from which what was found is 1.96 standard deviations away."""
    found = score(right, count)
    assert (found.right, found.count, found.share) == (right, count, right / count)
    for end in [end for end in (found.low, found.high) if 1e-6 < end < 1 - 1e-6]:
        assert abs(found.share - end) / math.sqrt(end * (1 - end) / count) == pytest.approx(1.96, abs=1e-3)
    assert found.low <= found.share <= found.high


def _corpus(components=8, windows=6):
    """Each component is active on a word of its own, each in documents of its own."""
    rows = []
    for number in range(components):
        places = [
            text_place(
                ["x", f"w{number}", f"filler{number}{at}"],
                at=1,
                document=100 * number + at,
                tokens=[0, number + 1, 99 + at],
            )
            for at in range(windows)
        ]
        rows.append(row(component=number, density=0.1 + 0.01 * number, places=places))
    return rows


def _firings(components=8, together=()):
    table = torch.zeros(40, components, dtype=torch.bool)
    for number in range(components):
        table[4 * number : 4 * number + 4, number] = True
    for one, other in together:
        table[:, other] |= table[:, one]
    components_, units = table.T.nonzero(as_tuple=True)
    return Firings({"a": components}, 40, components_.int(), units.int())


def test_a_trial_has_four_windows_of_one_component_and_one_of_another():
    rows = _corpus()
    drawn = list(trials(rows, _firings(), 5, seed=0))
    assert len({trial.component for trial in drawn}) == len(drawn) == 5
    for trial in drawn:
        assert 0.5 <= (0.1 + 0.01 * trial.component) / (0.1 + 0.01 * trial.other) <= 2
        for index, place in enumerate(trial.places):
            assert place["document"] // 100 == (trial.other if index == trial.odd else trial.component)
        assert len({place["document"] for place in trial.places}) == 5
    assert [trial.places for trial in trials(rows, _firings(), 5, seed=0)] == [trial.places for trial in drawn]
    assert [trial.odd for trial in trials(rows, _firings(), 8, seed=1)] != [
        trial.odd for trial in trials(rows, _firings(), 8, seed=2)
    ]


def test_the_odd_window_stands_anywhere():
    odd = [trial.odd for seed in range(40) for trial in trials(_corpus(), _firings(), 8, seed)]
    assert set(odd) == {0, 1, 2, 3, 4}
    assert max(map(odd.count, range(5))) < 2 * min(map(odd.count, range(5)))


def test_components_without_a_match_are_passed_over():
    rows = _corpus(3)
    rows[2]["density"] = 0.5  # too often for the others
    assert {trial.component for trial in trials(rows, _firings(3), 9, 0)} == {0, 1}
    assert list(trials(_corpus(2), _firings(2, [(0, 1)]), 9, 0)) == []  # they fire together
    assert list(trials(_corpus(2, windows=3), _firings(2), 9, 0)) == []  # too few windows
    rows = _corpus(2)
    for place, other in zip(rows[0]["places"], rows[1]["places"], strict=True):
        place["document"] = other["document"]
    assert list(trials(rows, _firings(2), 9, 0)) == []  # all from the same documents
    rows = _corpus(2)
    rows[1]["call"] = "b"
    assert list(trials(rows, Firings({"a": 2, "b": 2}, 9, torch.tensor([0]), torch.tensor([0])), 9, 0)) == []


def test_shared_tokens_find_the_intruder():
    rows = _corpus()
    drawn = list(trials(rows, _firings(), 8, 0))
    judge = TokenJudge(rows)
    assert [judge.odd_one(trial) for trial in drawn] == [trial.odd for trial in drawn]


def test_where_windows_share_nothing_the_judge_is_at_chance():
    places = [text_place(["q"], at=0, tokens=[number]) for number in range(1000)]
    judge = TokenJudge([row(places=places)])
    groups = [Trial("a", 0, 1, 0, places[first : first + 5]) for first in range(0, 1000, 5)]
    answers = [judge.odd_one(trial) for trial in groups]
    found = score(answers.count(0), len(answers))
    assert found.low < 0.2 < found.high
    assert answers == [judge.odd_one(trial) for trial in groups]


class _Run:
    """A run directory with a harvest of text, without a model: what the command reads of it is written here."""

    def __init__(self, folder, monkeypatch, rows):
        from spd_lightning.analysis.commands import label

        self.folder, self.analysis = folder, folder / "analysis"
        self.analysis.mkdir()
        (self.analysis / "harvest.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
        calls = {"a": SimpleNamespace(firings=torch.full((len(rows),), 25))}
        harvest = SimpleNamespace(weights="f00", firings=_firings(len(rows)), calls=calls)
        monkeypatch.setattr(label, "load_model", lambda *given: None)
        monkeypatch.setattr(label, "read_harvest", lambda *given: harvest)

    def label(self, *options):
        main(["label", str(self.folder), *options])

    def read(self, name):
        return json.loads((self.analysis / name).read_text())


@pytest.fixture
def run(tmp_path, monkeypatch):
    return _Run(tmp_path, monkeypatch, _corpus())


def test_statistics_label_and_judge_without_a_server(run, capsys):
    run.label("--intruder", "8")
    said = capsys.readouterr().out
    labels = run.read("labels.json")
    assert labels["labeller"] == "statistics of the harvest"
    assert [(one["call"], one["component"]) for one in labels["labels"]] == [("a", number) for number in range(8)]
    assert "intruder found in 8 of 8: 100%, 95 % interval 68% to 100%, chance 20%; judge: shared tokens" in said
    found = run.read("intruders.json")
    assert (found["judge"], found["chance"]) == ("shared tokens", 0.2)
    assert found["score"] == pytest.approx({"right": 8, "count": 8, "share": 1.0, "low": 0.6756, "high": 1.0}, abs=1e-4)
    assert sorted(path.name for path in run.analysis.iterdir()) == ["harvest.jsonl", "intruders.json", "labels.json"]
    before = {path: path.read_bytes() for path in run.analysis.iterdir()}
    run.label("--intruder", "8")
    assert capsys.readouterr().out.count("is finished already; nothing was done") == 2
    assert before == {path: path.read_bytes() for path in run.analysis.iterdir()}


def test_a_server_that_goes_away_loses_nothing(run, capsys, monkeypatch):
    monkeypatch.setattr(time_of_chat, "sleep", lambda seconds: None)
    monkeypatch.setenv(KEY_VARIABLE, "secret")

    def answer(question, number):
        if number >= 3:
            return 503, {}, b"tired"
        return chat(f"label {number}")

    with serving(answer) as served:
        address, given = served.address, ["--model", "small", "--retries", "1"]
        with pytest.raises(SystemExit) as stopped:
            run.label("--server", address, *given)
        assert stopped.value.code == 2
        told = capsys.readouterr().err
        assert re.fullmatch(r"error: --server '.*': it answers 503: 'tired' after 2 tries; what is finished .*\n", told)
        assert len(served.questions) == 5
        assert {headers["Authorization"] for headers in served.headers} == {"Bearer secret"}
        part = run.analysis / "labels.part.jsonl"
        with part.open("a") as file:
            file.write('{"call": "a", "compon')  # as a kill leaves it
        answers = iter(range(3, 8))
        served_again = lambda question, number: chat(f"label {next(answers)}")  # noqa: E731 (shorter here)
        with serving(served_again) as other:
            part.write_text(part.read_text().replace(address, other.address))
            run.label("--server", other.address, *given)
    labels = run.read("labels.json")
    assert [one["label"] for one in labels["labels"]] == [f"label {number}" for number in range(8)]
    assert not part.exists()
    assert "secret" not in (run.analysis / "labels.json").read_text()


def test_labels_that_were_begun_by_another_are_not_gone_on_with(run, capsys):
    (run.analysis / "labels.part.jsonl").write_text('{"labeller": "somebody"}\n{"label": "kept"}\n')
    with pytest.raises(SystemExit) as stopped:
        run.label()
    assert stopped.value.code == 2
    assert "is damaged, or of other options or other weights; move it away" in capsys.readouterr().err
    assert "kept" in (run.analysis / "labels.part.jsonl").read_text()


def test_labels_of_another_labeller_are_not_overwritten(run, capsys):
    run.label()
    with pytest.raises(SystemExit):
        run.label("--server", "http://127.0.0.1:1/v1", "--model", "small")
    assert "is of 'statistics of the harvest' or of other weights; move it away" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "small"], "--model 'small' needs --server"),
        (["--server", "http://a/v1"], "--model must name a model of the server"),
        (["--server", "/v1", "--model", "m"], "--server must be an address"),
        (["--intruder", "0"], "--intruder must be at least 1"),
    ],
)
def test_options_that_cannot_work_are_one_line(run, capsys, options, message):
    with pytest.raises(SystemExit) as stopped:
        run.label(*options)
    told = capsys.readouterr().err
    assert (stopped.value.code, told.count("\n")) == (2, 1)
    assert message in told
    assert os.listdir(run.analysis) == ["harvest.jsonl"]


def test_a_harvest_without_text_has_no_intruders(tmp_path, monkeypatch, capsys):
    run = _Run(tmp_path, monkeypatch, [row(component=number) for number in range(3)])
    with pytest.raises(SystemExit):
        run.label("--intruder", "3")
    assert "--intruder needs components of text with four windows each" in capsys.readouterr().err
    assert len(run.read("labels.json")["labels"]) == 3


@pytest.mark.parametrize("change", [{"call": "b"}, {"component": 8}, {"component": -1}, {"firings": 24}])
def test_rows_of_another_harvest_are_refused(tmp_path, monkeypatch, capsys, change):
    rows = _corpus()
    rows[3] |= change
    with pytest.raises(SystemExit):
        _Run(tmp_path, monkeypatch, rows).label()
    assert "harvest.jsonl' is of another harvest; move it away and harvest anew" in capsys.readouterr().err


DAMAGE = [
    "{",
    "[]",
    '{"call": 1}',
    "null",
    "[" * 100_000,
    '{"call": "a", "component": true}',
    '{"call": "a", "component": 1}',
]
WINDOW = {"document": 0, "at": 0, "tokens": [1], "texts": ["a"], "importances": [1.0]}
DAMAGE += [
    json.dumps(row(places=[WINDOW | change]))
    for change in ({"at": 1}, {"at": -1}, {"tokens": [1, 2]}, {"texts": []}, {"importances": [None]}, {"document": "a"})
]
DAMAGE += [json.dumps(row(density=value)) for value in (float("nan"), float("inf"), "1", None, 10**400)]


@pytest.mark.parametrize("line", DAMAGE)
def test_damaged_rows_are_one_line(run, capsys, line):
    path = run.analysis / "harvest.jsonl"
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(SystemExit) as stopped:
        run.label()
    told = capsys.readouterr().err
    assert (stopped.value.code, told.count("\n")) == (2, 1)
    assert "is damaged (line " in told
