"""``python -m spd_lightning.report``."""

import shutil

import pytest

from spd_lightning.report.__main__ import main
from tests.report.reader import Page


@pytest.fixture
def refused(capsys):
    """Run a command that must be refused: exit code 2 and one line, which is returned."""

    def command(*args):
        with pytest.raises(SystemExit) as stopped:
            main([str(arg) for arg in args])
        written = capsys.readouterr()
        assert stopped.value.code == 2
        assert written.out == ""
        assert written.err.startswith("error: ")
        assert written.err.count("\n") == 1
        return written.err

    return command


def test_one_run_is_reported_into_its_own_folder(finished, capsys):
    (finished / "report.html").write_text("an older one")

    main([str(finished)])

    assert Page((finished / "report.html").read_text()).text.startswith("tiny/seed_0")
    assert capsys.readouterr().out == f"The report is in {finished / 'report.html'}\n"


def test_several_runs_become_a_table_here(finished, tmp_path, monkeypatch):
    other = finished.with_name("version_3")
    shutil.copytree(finished, other)
    (other / "metrics.json").unlink()
    monkeypatch.chdir(tmp_path)

    main([str(finished), str(other)])

    read = Page((tmp_path / "report.html").read_text())
    assert read.table("system") == [["tiny", "1", "1", "2"]]
    assert [row[0] for row in read.table("run", "verdict")] == ["needed", "0", "version_3"]


def test_an_output_of_ones_own_is_written_and_made_anew(finished, tmp_path):
    output = tmp_path / "new" / "page.html"

    main([str(finished), "--output", str(output)])
    first = output.read_text()
    main([str(finished), str(finished), "--output", str(output)])

    assert "tiny/seed_0" in first
    assert "2 runs" in output.read_text()
    assert not (finished / "report.html").exists()


def test_foreign_files_are_never_replaced(finished, tmp_path, monkeypatch, refused):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "report.html").write_text("my own report")
    (tmp_path / "notes.txt").write_text("notes")

    assert "notes.txt' exists and is not a report" in refused(finished, "--output", "notes.txt")
    assert "'report.html' exists and is not a report" in refused(finished, finished)
    assert "'.' exists and is not a report" in refused(finished, "--output", ".")
    assert (tmp_path / "report.html").read_text() == "my own report"
    assert (tmp_path / "notes.txt").read_text() == "notes"


def test_what_is_no_finished_run_is_refused_in_one_line(finished, tmp_path, refused):
    (tmp_path / "file").write_text("")

    assert "RUN_DIR must be a run directory, but" in refused(tmp_path / "none")
    assert "(nothing is there)" in refused(finished, tmp_path / "none")
    assert "name one that fit wrote, such as runs/tms/version_0" in refused(tmp_path / "file")
    assert "(config.yaml is missing)" in refused(tmp_path)
    (finished / "metrics.json").write_text("{")
    assert "Expecting property name" in refused(finished)
    (finished / "metrics.json").unlink()
    assert "must be a finished run, but" in refused(finished)
    assert not (finished / "report.html").exists()


def test_wrong_arguments_are_one_line_too(refused):
    assert "RUN_DIR" in refused()
    assert "unrecognized arguments: --colour" in refused("a", "--colour")
