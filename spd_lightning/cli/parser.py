"""The parser behind every command."""

import re
import textwrap
from dataclasses import is_dataclass
from typing import Any, Literal, TypeVar

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LightningArgumentParser

from spd_lightning.cli.arguments import located, one_line
from spd_lightning.cli.wording import worded
from spd_lightning.errors import UsageError

RESUME_HELP = "auto: go on with the newest run where there is one to go on with; never: only as --ckpt_path says."
INIT_HELP = "Checkpoint or directory of a finished run whose components and gates a new run starts from."
INPUT_HELP = "Inputs, .csv, .npy or .pt; default: one-hot probes."
REQUIRED = "arguments are required"
_SUBCLASSES = re.compile(r"\s*known\s+subclasses:(.*?)\)", re.DOTALL)
Built = TypeVar("Built")
INDENT, WIDTH = 24, 80
"""Of argparse's help."""


class OneLineParser(LightningArgumentParser):
    """Reports what is wrong with arguments or configs in one line, and takes no abbreviated flags.

    Attributes:
        owner: the class whose arguments it reads, if it reads those of a class.
    """

    owner: type | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def add_class_arguments(
        self, theclass: type, nested_key: str | None = None, *args: Any, **kwargs: Any
    ) -> list[str]:
        """Add them, and know whose they are."""
        if nested_key is None:
            self.owner = theclass
        added: list[str] = super().add_class_arguments(theclass, nested_key, *args, **kwargs)
        return added

    def error(self, message: str, ex: Exception | None = None) -> Any:
        """Raise a :class:`UsageError`, which becomes ``error: ...`` and exit code 2."""
        hint = _way_out(message) if self.owner is None and REQUIRED in message else ""
        raise UsageError(one_line(worded(getattr(ex, "subcommand_parser", self), message)) + hint)


def _way_out(message: str) -> str:
    if "model.sites" in message and "model.target" not in message:
        return "; name the sites to decompose, or let python -m spd_lightning.recommend propose them"
    return "; name a config, for example --config tms.yaml"


def add_own_arguments(parser: LightningArgumentParser, command: str) -> None:
    """Give ``fit`` its ways to start, ``predict`` its input and output files.

    Args:
        parser: of the command.
        command: its name.
    """
    if command == "fit":
        parser.add_argument("--resume", type=Literal["never", "auto"], default="never", help=RESUME_HELP)
    start = INIT_HELP if command == "fit" else "What the run was started from; of no effect here."
    parser.add_argument("--init_from", type=str | None, default=None, help=start)
    if command == "predict":
        parser.add_argument("--input", type=str | None, default=None, help=INPUT_HELP)
        parser.add_argument("--output", type=str, default="importances.csv", help="File to write, .csv or .pt.")


def named_in_errors(class_type: type[Built], *args: Any, **kwargs: Any) -> Built:
    """Make an object; errors say of which class, since losses and callbacks share names of arguments.

    Not of a decomposition, nor of a group of its arguments or data, which name themselves.
    """
    try:
        return class_type(*args, **kwargs)
    except UsageError as error:
        known = (
            is_dataclass(class_type)
            or issubclass(class_type, LightningModule)
            or str(error).startswith((class_type.__name__, "data:"))
        )
        raise error if known else UsageError(f"{class_type.__name__}: {error}") from None
    except MisconfigurationException:
        raise
    except Exception as error:  # a class of somebody's own may fail in any way
        raise UsageError(f"{class_type.__name__} cannot be made: {located(error)}") from error


def full_help(parser: LightningArgumentParser, part: str) -> str:
    """Every option with its type and default.

    Args:
        parser: of a command; not to be used for anything else afterwards.
        part: ``all``, or the first part of the names that are wanted.
    """
    if part != "all":
        parser.usage, parser.description = f"flags that begin with --{part}", None
        parser._action_groups = [group for group in parser._action_groups if _is_about(group, part)]
    text: str = parser.format_help()
    return _SUBCLASSES.sub(_of_this_package, text)


def _of_this_package(match: re.Match[str]) -> str:
    """The classes of this package by their short names, without the hundreds that torch has."""
    names = ["".join(name.split()) for name in match[1].split(",")]
    own = [name.rpartition(".")[2] for name in names if re.fullmatch(r"spd_lightning[.]\w+", name)]
    said = "classes: " + ", ".join(dict.fromkeys(own)) + ", or your own)"
    return "\n" + textwrap.indent(textwrap.fill(said, WIDTH - INDENT), " " * INDENT) if own else match[0]


def _is_about(group: Any, part: str) -> bool:
    return any(action.dest.partition(".")[0] == part for action in group._group_actions)
