"""Which method a command is about: its arguments and configs are read by that method's constructor."""

from pathlib import Path
from typing import Literal, get_args

import yaml

from spd_lightning.errors import check_choice
from spd_lightning.methods import METHODS, Decomposition

Method = Literal["spd", "apd"]
HELP = "spd: Stochastic Parameter Decomposition; apd: Attribution-based Parameter Decomposition, the older method."


def chosen_method(args: list[str]) -> type[Decomposition]:
    """The method that arguments name, the last one counting; SPD if none does.

    Args:
        args: arguments with configs as ``--config=PATH``; a file that cannot be read is left to the parser.

    Returns:
        Its LightningModule.

    Raises:
        UsageError: for a method that does not exist.
    """
    method: object = "spd"
    for position, argument in enumerate(args):
        flag, separator, value = argument.partition("=")
        if flag == "--config" and separator:
            method = _of_config(Path(value), method)
        elif flag == "--method":
            method = value if separator else "".join(args[position + 1 : position + 2])
    check_choice("method", method, get_args(Method))
    return METHODS[str(method)]


def _of_config(path: Path, default: object) -> object:
    try:
        content = yaml.load(path.read_text(encoding="utf-8-sig"), yaml.BaseLoader)  # a bad value hides no method
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return default
    return content.get("method", default) if isinstance(content, dict) else default
