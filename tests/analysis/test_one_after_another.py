"""The commands one after another on a run of text, each reading what the one before has written."""

import json

import pytest

from spd_lightning.analysis.__main__ import main
from spd_lightning.report.__main__ import main as report
from tests.analysis.chat_server import chat, serving
from tests.report.reader import Page


def test_text_is_harvested_clustered_labelled_and_shown(language_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SPD_LIGHTNING_CACHE", str(tmp_path / "cache"))
    folder, analysis = str(language_run), language_run / "analysis"
    main(["harvest", folder])
    rows = [json.loads(line) for line in (analysis / "harvest.jsonl").read_text().splitlines()]
    assert {row["call"] for row in rows} == {
        "transformer.h.0.attn.c_attn[v]",
        "transformer.h.0.mlp.c_proj",
    }
    for row in rows:
        assert ("writes" in row) == row["call"].endswith("mlp.c_proj")  # which alone writes to the stream
        for entry in row.get("writes", ()):
            assert not entry["name"].startswith("output")  # its outputs are tokens
        assert "reads" not in row
        assert all(place["texts"][place["at"]] == place["token"] for place in row["places"])
    main(["cluster", folder, "--seeds", "0"])
    with (
        serving(lambda question, number: chat(f"label {number}")) as served,
        pytest.raises(SystemExit),  # every component fires nearly everywhere: none is of another place
    ):
        main(["label", folder, "--server", served.address, "--model", "small", "--intruder", "3"])
    assert "this harvest has none" in capsys.readouterr().err
    assert len(served.questions) == len(rows)
    assert "Where it is most active" in served.questions[0]
    report([folder, "--cards"])
    page = Page((analysis / "cards.html").read_text())
    for number, row in enumerate(rows):
        assert f"label {number}" in page.text
        assert f"{row['call']}:{row['component']}" in page.text
