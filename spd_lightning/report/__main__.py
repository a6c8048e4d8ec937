"""``python -m spd_lightning.report RUN_DIR [RUN_DIR ...] [--cards] [--output FILE]``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from spd_lightning.errors import OneLineParser, UsageError, told_in_one_line
from spd_lightning.report import REPORT_NAME, TableRow, read_run, run_page, table_page, write_page
from spd_lightning.report.cards_data import cards_data
from spd_lightning.report.cards_page import cards_page
from spd_lightning.report.notes import plain
from spd_lightning.report.reading import run_name
from spd_lightning.runs.analysis_files import CARDS, FOLDER
from spd_lightning.runs.record import RunRecord


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="python -m spd_lightning.report", description="Write a report to read in a browser.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN_DIR", help="run directory; several make a table")
    parser.add_argument(
        "--output", type=Path, help=f"file to write; default: {REPORT_NAME} in the run directory, for several here"
    )
    parser.add_argument(
        "--cards", action="store_true", help=f"cards of components and mechanisms; default: {FOLDER}/{CARDS} in RUN_DIR"
    )
    return parser


def _cards(folders: Sequence[Path], output: Path | None) -> Path:
    if len(folders) > 1:
        raise UsageError(f"--cards takes one RUN_DIR, got {len(folders)}; make a page for each")
    path = output or folders[0] / FOLDER / CARDS
    write_page(path, cards_page(run_name(folders[0]), cards_data(folders[0])), ours=output is None)
    return path


def _run_report(folder: Path, output: Path | None) -> Path:
    record = read_run(folder)
    if record.state == "started":
        raise UsageError(
            f"RUN_DIR must be a finished run, but {str(folder)!r} has no final scores yet; go on with it, or score it "
            "with python -m spd_lightning test --ckpt_path CHECKPOINT"
        )
    _check_readable(record)
    path = output or folder / REPORT_NAME
    write_page(path, run_page(record), ours=output is None)
    return path


def _table_report(folders: Sequence[Path], output: Path | None) -> Path:
    records = [read_run(folder) for folder in folders]
    for record in records:
        if record.state == "absent":
            _check_readable(record)
    path = output or Path(REPORT_NAME)
    write_page(path, table_page(f"{len(records)} runs", [_row(record) for record in records]))
    return path


def _row(record: RunRecord) -> TableRow:
    folder = record.folder.resolve()
    seed = record.metrics.get("seed", record.config.get("seed_everything"))
    usual = folder.name == f"seed_{plain(seed)}"
    return TableRow(folder.parent.name, plain(seed) if usual else folder.name, record)


def _check_readable(record: RunRecord) -> None:
    if record.state in ("absent", "damaged"):
        raise UsageError(
            f"RUN_DIR must be a run directory, but {str(record.folder)!r} is none "
            f"({record.problem or 'nothing is there'}); name one that fit wrote, such as runs/tms/version_0"
        )


def main(args: Sequence[str] | None = None) -> None:
    """Run the command.

    Args:
        args: arguments; those of the process by default.

    Raises:
        SystemExit: with code 2 and one line on stderr for wrong usage.
    """
    with told_in_one_line():
        options = _parser().parse_args(args)
        if options.cards:
            path = _cards(options.runs, options.output)
            sys.stdout.write(f"The cards are in {path}\n")
            return
        several = len(options.runs) > 1
        path = _table_report(options.runs, options.output) if several else _run_report(options.runs[0], options.output)
    sys.stdout.write(f"The report is in {path}\n")


if __name__ == "__main__":
    main()
