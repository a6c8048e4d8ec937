"""``python -m spd_lightning.analysis label RUN_DIR``."""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from spd_lightning.analysis.chat import KEY_VARIABLE, ChatServer
from spd_lightning.analysis.chat_labels import ChatJudge, ChatLabeller
from spd_lightning.analysis.commands.shared import add_loading
from spd_lightning.analysis.harvest_files import read_harvest
from spd_lightning.analysis.harvest_tally import Harvest
from spd_lightning.analysis.intruders import CHANCE, Judge, Score, TokenJudge, score, trials
from spd_lightning.analysis.labelling import Labeller, Row, StatisticsLabeller, repeated
from spd_lightning.artefact import load_model
from spd_lightning.errors import UsageError, check_whole
from spd_lightning.files.journal import Journal
from spd_lightning.files.progress import progress
from spd_lightning.files.whole import check_free, is_file, written_whole
from spd_lightning.runs.analysis_files import (
    FOLDER,
    INTRUDERS,
    INTRUDERS_SHAPE,
    LABELS,
    LABELS_SHAPE,
    ROWS,
    read_json,
    read_rows,
)

FORMAT, SHOWN = 1, 10


def add_to(commands: Any) -> None:
    """Add the subcommand to a parser's subparsers."""
    parser = commands.add_parser("label", help="name components, from statistics or by a language model on a server")
    parser.add_argument("folder", type=Path, metavar="RUN_DIR", help="run directory with a harvest")
    parser.add_argument("--server", metavar="URL", help="server of OpenAI's chat protocol; none: names from statistics")
    parser.add_argument("--model", default="", metavar="NAME", help="the model's name on the server")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for one answer (%(default)s)")
    parser.add_argument("--retries", type=int, default=4, help="how often a question is asked again (%(default)s)")
    parser.add_argument("--intruder", type=int, metavar="N", help="test the windows of N components, too")
    parser.add_argument("--seed", type=int, default=0, help="of the test's draws (%(default)s)")
    add_loading(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> None:
    """Label, or go on where it was stopped; test; say what was found."""
    if given.intruder is not None:
        check_whole("--intruder", given.intruder, least=1)
    check_whole("--seed", given.seed, most=None)
    server = _server(given)
    harvest = read_harvest(given.folder, load_model(given.folder, given.import_classes))
    rows = read_rows(given.folder)
    _check_rows(given.folder, rows, harvest)
    labeller = StatisticsLabeller() if server is None else ChatLabeller(server)
    sys.stdout.write("\n".join(_labelled(given.folder, harvest.weights, rows, labeller)) + "\n")
    if given.intruder is not None:
        judge = TokenJudge(rows) if server is None else ChatJudge(server)
        sys.stdout.write("\n".join(_tested(given, harvest, rows, judge)) + "\n")


def _server(given: argparse.Namespace) -> ChatServer | None:
    if given.server is None:
        if given.model:
            raise UsageError(f"--model {given.model!r} needs --server, the address of the server that has it")
        return None
    return ChatServer(given.server, given.model, os.environ.get(KEY_VARIABLE), given.timeout, given.retries)


def _check_rows(run: Path, rows: list[dict[str, Any]], harvest: Harvest) -> None:
    for row in rows:
        found = harvest.calls.get(row["call"])
        number = row["component"]
        if found is None or not 0 <= number < len(found.firings) or int(found.firings[number]) != row.get("firings"):
            raise UsageError(f"{str(run / FOLDER / ROWS)!r} is of another harvest; move it away and harvest anew")


def _labelled(run: Path, weights: str, rows: list[dict[str, Any]], labeller: Labeller) -> Iterator[str]:
    path = run / FOLDER / LABELS
    head = {"format": FORMAT, "weights": weights, "labeller": labeller.name}
    if is_file(path):
        found = read_json(path, LABELS_SHAPE, "label")
        if {name: found.get(name) for name in head} != head:
            raise UsageError(f"{str(path)!r} is of {found['labeller']!r} or of other weights; move it away")
        yield f"{path} is finished already; nothing was done"
        return
    check_free(path)
    journal = Journal(path.with_suffix(".part.jsonl"), head)
    _label(rows, labeller, journal)
    with written_whole(path) as aside:
        aside.write_text(json.dumps({**head, "labels": journal.rows}, indent=1) + "\n", encoding="utf-8")
    journal.close()
    for row in journal.rows[:SHOWN]:
        yield f"  {row['call']}:{row['component']}: {row['label']}"
    if len(journal.rows) > SHOWN:
        yield f"  and {len(journal.rows) - SHOWN} more"
    same = repeated(row["label"] for row in journal.rows)
    yield f"{len(journal.rows)} labels from {labeller.name}, {same} of them another component's too"
    yield f"written to {path}"


def _label(rows: list[dict[str, Any]], labeller: Labeller, journal: Journal) -> None:
    named = {(row.get("call"), row.get("component")) for row in journal.rows}
    with progress("label", total=len(rows)) as bar:
        bar.update(len(named))
        for row in rows:
            if (row["call"], row["component"]) not in named:
                label = labeller.label(row)
                journal.add({"call": row["call"], "component": row["component"], "label": label})
                bar.update()


def _tested(given: argparse.Namespace, harvest: Harvest, rows: Sequence[Row], judge: Judge) -> Iterator[str]:
    path = given.folder / FOLDER / INTRUDERS
    head = {"format": FORMAT, "weights": harvest.weights, "judge": judge.name}
    head |= {"trials": given.intruder, "seed": given.seed}
    if is_file(path):
        found = read_json(path, INTRUDERS_SHAPE, "label --intruder")
        if {name: found.get(name) for name in head} != head:
            raise UsageError(f"{str(path)!r} is of another judge, number, seed or other weights; move it away")
        yield f"{path} is finished already; nothing was done"
        return
    check_free(path)
    drawn = list(trials(rows, harvest.firings, given.intruder, given.seed))
    if not drawn:
        raise UsageError(
            "--intruder needs components of text with four windows each, and others that are important about as often; "
            "this harvest has none"
        )
    journal = Journal(path.with_suffix(".part.jsonl"), head)
    with progress("intruder test", total=len(drawn)) as bar:
        bar.update(len(journal.rows))
        for trial in drawn[len(journal.rows) :]:
            answer = judge.odd_one(trial)
            row = {"call": trial.call, "component": trial.component, "other": trial.other}
            journal.add({**row, "odd": trial.odd, "answer": answer, "windows": trial.windows})
            bar.update()
    right = score(sum(row["odd"] == row["answer"] for row in journal.rows), len(journal.rows))
    content = {**head, "chance": CHANCE, "score": vars(right), "answers": journal.rows}
    with written_whole(path) as aside:
        aside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    journal.close()
    yield _told(right, judge.name, given.intruder)
    yield f"written to {path}"


def _told(found: Score, judge: str, wanted: int) -> str:
    fewer = f" ({wanted} were asked for; no more have a match)" if found.count < wanted else ""
    return (
        f"intruder found in {found.right} of {found.count}{fewer}: {found.share:.0%}, 95 % interval {found.low:.0%} to "
        f"{found.high:.0%}, chance {CHANCE:.0%}; judge: {judge}"
    )
