"""``python -m spd_lightning.analysis COMMAND RUN_DIR ...``."""

import argparse
from collections.abc import Sequence

from spd_lightning.analysis.commands import agreement, circuit, cluster, edit, graph, harvest, label, query_key
from spd_lightning.errors import OneLineParser, told_in_one_line

COMMANDS = (harvest, cluster, label, graph, circuit, query_key, edit, agreement)
"""Modules of the subcommands, in the order of the help."""


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="python -m spd_lightning.analysis", description="Look into finished decompositions.")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=OneLineParser)
    for command in COMMANDS:
        command.add_to(commands)
    return parser


def main(args: Sequence[str] | None = None) -> None:
    """Run the command.

    Args:
        args: arguments; those of the process by default.

    Raises:
        SystemExit: with code 2 and one line on stderr for wrong usage.
    """
    with told_in_one_line():
        options = _parser().parse_args(args)
        options.run(options)


if __name__ == "__main__":
    main()
