"""The page that a run ends with."""

import json

import pytest

from spd_lightning import UsageError
from spd_lightning.callbacks import ComponentActivity, FinalReport, HtmlReport, MechanismRecovery
from tests.callbacks.perfect import Rows
from tests.methods.tiny import features, fit, toy
from tests.report.reader import Page


def _scoring(*last):
    return [ComponentActivity(), MechanismRecovery(chance_draws=1), *last]


@pytest.mark.parametrize("reports", [(FinalReport, HtmlReport), (HtmlReport, FinalReport)])
@pytest.mark.parametrize("verb", ["test", "validate"])
def test_the_page_lies_beside_the_scores_and_shows_them_all(reports, verb, perfect, examples, run, capsys):
    result = run(perfect, Rows(examples), *_scoring(*(report() for report in reports)), verb=verb)

    scores = json.loads((result.folder / "metrics.json").read_text())["scores"]
    read = Page((result.folder / "report.html").read_text())
    assert read.table("score") == [[name, repr(score)] for name, score in scores.items()]
    assert len(scores) == 18
    assert "Recovered: the known mechanisms of all 2 sites were found." in read.text
    assert capsys.readouterr().out.endswith(f"A report to open in a browser is {result.folder / 'report.html'}\n")


def test_every_evaluation_makes_the_page_anew(perfect, examples, run):
    reports = FinalReport(), HtmlReport()
    run(perfect, Rows(examples), ComponentActivity(0.1), *reports)
    first = run(perfect, Rows(examples), ComponentActivity(0.2), *reports).folder / "report.html"

    assert "importances above 0.2" in Page(first.read_text()).text


def test_a_validation_inside_training_makes_no_page(tmp_path, capsys):
    reports = [FinalReport(), HtmlReport()]

    fit(toy(), features(), tmp_path, callbacks=reports, val_check_interval=2, limit_val_batches=None)

    assert list(tmp_path.iterdir()) == []
    assert "report" not in capsys.readouterr().out


def test_a_run_that_keeps_nothing_has_no_page(perfect, examples, run):
    result = run(perfect, Rows(examples), *_scoring(FinalReport(), HtmlReport()), fast_dev_run=True)

    assert list(result.folder.iterdir()) == []


@pytest.mark.parametrize("verb", ["test", "validate"])
def test_a_page_without_scores_is_refused(verb, perfect, examples, run):
    with pytest.raises(UsageError, match=r"HtmlReport needs the scores that FinalReport writes; add it to"):
        run(perfect, Rows(examples), HtmlReport(), verb=verb)


def test_training_without_scores_is_refused_before_it_starts(tmp_path):
    with pytest.raises(UsageError, match="HtmlReport needs the scores"):
        fit(toy(), features(), tmp_path, callbacks=[HtmlReport()])


def test_a_page_that_cannot_be_written_costs_one_line_and_no_scores(perfect, examples, run, tmp_path):
    (tmp_path / "report.html").mkdir()

    with pytest.raises(UsageError, match=r"the report '.*report.html' cannot be written \(Is a directory\)"):
        run(perfect, Rows(examples), *_scoring(FinalReport(), HtmlReport()))

    assert (tmp_path / "metrics.json").is_file()
