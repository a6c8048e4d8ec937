"""Rows that are kept one by one."""

import errno

import pytest

from spd_lightning import UsageError
from spd_lightning.files.journal import Journal
from spd_lightning.files.whole import WriteError


def test_rows_are_there_again_without_one_that_was_cut_off(tmp_path):
    path = tmp_path / "new" / "rows.jsonl"
    journal = Journal(path, {"of": "this"})
    for number in range(3):
        journal.add({"number": number, "text": "a\u2028b"})
    whole = path.read_bytes()
    for cut in range(len(whole) - 25, len(whole)):
        path.write_bytes(whole[:cut])
        assert [row["number"] for row in Journal(path, {"of": "this"}).rows] == [0, 1]
    path.write_bytes(whole)
    again = Journal(path, {"of": "this"})
    again.add({"number": 3})
    assert [row["number"] for row in Journal(path, {"of": "this"}).rows] == [0, 1, 2, 3]
    again.close()
    assert not path.exists()


@pytest.mark.parametrize(
    "content", ['{"of": "that"}\n', "", "[]\n", '{"of": "this"}\nmine\n', '{"of": "this"}\n[1]\n', "\xff"]
)
def test_a_file_of_something_else_is_left_alone(tmp_path, content):
    path = tmp_path / "rows.jsonl"
    path.write_text(content)
    with pytest.raises(UsageError, match="is damaged, or of other options or other weights; move it away"):
        Journal(path, {"of": "this"})
    assert path.read_text() == content


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    journal = Journal(tmp_path / "rows.jsonl", {})

    def full(*given, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(journal.path), "open", full)
    with pytest.raises(WriteError, match="make room"):
        journal.add({"number": 1})
    assert journal.rows == []
