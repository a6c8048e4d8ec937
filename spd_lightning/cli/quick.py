"""What can be answered at once, before torch and Lightning are imported: help, lists, and flags that do not exist."""

import sys
from collections.abc import Sequence

from spd_lightning.cli.flags import COMMANDS, HELP_FLAGS, LISTING, PARTS, is_known, known_flags
from spd_lightning.cli.help import command_help, overview
from spd_lightning.cli.near import suggestion
from spd_lightning.cli.shipped import listing
from spd_lightning.errors import WRONG_USAGE, UsageError

EXAMPLE = "python -m spd_lightning fit --config tms.yaml"


def answer(args: Sequence[str]) -> str | None:
    """The answer to a command that runs nothing.

    Args:
        args: arguments as typed.

    Returns:
        Text, or ``None`` if the command has to be run.

    Raises:
        UsageError: for a command or a flag that does not exist.
    """
    if args and args[0] in HELP_FLAGS:
        return overview()
    check_command(args)
    if any(word in HELP_FLAGS for word in args[1:]):
        return command_help(args[0])
    if args[0] == LISTING:
        if args[1:]:
            raise UsageError(f"{LISTING} takes no arguments, got {args[1]!r}")
        return listing()
    check_flags(args[0], args[1:])
    return None


def check_command(args: Sequence[str]) -> None:
    """Refuse arguments that begin with no command.

    Raises:
        UsageError: naming those that there are.
    """
    if not args:
        raise UsageError(f"name a command: {', '.join(COMMANDS)}; for example {EXAMPLE}")
    if args[0].startswith("-"):
        raise UsageError(f"a command comes before its flags, got {args[0]!r}; the commands are {', '.join(COMMANDS)}")
    if args[0] not in COMMANDS:
        raise UsageError(f"there is no command {args[0]!r}{suggestion(args[0], COMMANDS)}")


def check_flags(command: str, args: Sequence[str]) -> None:
    """Refuse flags of a form that no method knows; values, and names below classes, are left to the parser.

    Raises:
        UsageError: naming the first such flag, and what it may have meant.
    """
    known = known_flags(command)
    for word in args:
        flag = word.partition("=")[0].removeprefix("--")
        if not word.startswith("--") or not flag:
            continue
        if flag.partition(".")[0] == "help":
            check_part(flag)
        elif not is_known(flag, known):
            raise UsageError(f"there is no flag --{flag}{suggestion(flag.removesuffix('+'), known, '--')}")


def check_part(flag: str) -> None:
    """Refuse help on what there is none on.

    Raises:
        UsageError: naming what there is help on.
    """
    if flag not in {f"help.{part}" for part in PARTS}:
        raise UsageError(f"there is no flag --{flag}{suggestion(flag, [f'help.{part}' for part in PARTS], '--')}")


def answer_at_once(args: Sequence[str]) -> None:
    """End the process if a command can be answered at once; code 0 with the answer, 2 with what is wrong.

    Args:
        args: arguments as typed.

    Raises:
        SystemExit: if the command is answered.
    """
    try:
        text = answer(args)
    except UsageError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(WRONG_USAGE)
    if text is not None:
        sys.stdout.write(text)
        sys.exit(0)
