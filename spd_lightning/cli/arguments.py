"""Arguments before they are parsed, and messages after."""

import os
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from spd_lightning.cli.added_losses import arguments_of
from spd_lightning.cli.checkpoint_choice import LAST, check_place, run_directory
from spd_lightning.cli.config_files import check_config_file
from spd_lightning.cli.flags import LISTING, RUNNING
from spd_lightning.cli.near import nearest
from spd_lightning.cli.shipped import SWEEPS
from spd_lightning.cli.shipped import shipped_configs as shipped_configs
from spd_lightning.errors import UsageError
from spd_lightning.files.whole import is_file

LONGEST = 1500
"""Longest message, in characters; it may quote a value of any length."""
NO_SUBTYPE = "Does not validate against any"
_TWICE = re.compile(r"more than one stateful callback of type `(\w+)`")
_NOISE = re.compile(
    rf"^({NO_SUBTYPE}|- {NO_SUBTYPE}|Subtypes:|Errors:|Given value|- Expected a <class 'NoneType'>|"
    r"- Expected a path but|Subclass types expect|- a class path|- a dict with|- Not a valid subclass of \w+$)"
)


def find_config(name: str) -> Path:
    """A config by path or, failing that, by its name among the shipped ones.

    Args:
        name: for example ``tms.yaml`` or ``paper/tms_5-2.yaml``.

    Returns:
        An existing file.

    Raises:
        UsageError: if there is none; the message names near ones, or the command that lists all.
    """
    sweeps = shipped_configs() / SWEEPS
    return _found(name, "config", shipped_configs(), lambda path: sweeps not in path.parents)


def find_sweep(name: str) -> Path:
    """A sweep file by path or, failing that, by its name among the shipped ones; see :func:`find_config`."""
    return _found(name, "sweep", shipped_configs() / SWEEPS, lambda path: True)


def _found(name: str, what: str, shipped: Path, offered: Callable[[Path], bool]) -> Path:
    for candidate in (Path(name), shipped / name):
        if is_file(candidate):
            return candidate
    if name and os.path.exists(name):
        raise UsageError(f"{what} {name!r} is no file")
    names = sorted(str(path.relative_to(shipped)) for path in shipped.rglob("*.yaml") if offered(path))
    near = nearest(Path(name).stem, [shipped_name.removesuffix(".yaml") for shipped_name in names])
    meant = " or ".join(f"{stem}.yaml" for stem in near)
    hint = f"did you mean {meant}?" if near else _where_listed(what, names)
    raise UsageError(f"{what} {name!r} does not exist; {hint}")


def _where_listed(what: str, names: list[str]) -> str:
    if what == "config":
        return f"python -m spd_lightning {LISTING} lists those that come with the package"
    return f"shipped {what}s are {', '.join(names)}"


def with_shipped_configs(args: list[str]) -> list[str]:
    """Resolve the names of configs and put ``base.yaml`` in front of them.

    A command that names a checkpoint of a run directory and no config gets the run's own.

    Args:
        args: arguments as typed.

    Returns:
        Arguments in which every config is an existing path.
    """
    if not args or args[0] not in RUNNING:
        return list(args)
    subcommand, *rest = args
    resolved = _resolved(rest)
    named = any(argument.startswith("--config=") for argument in resolved)
    if not named:
        resolved = [*_config_of_run(rest), *resolved]
    return [subcommand, f"--config={shipped_configs() / 'base.yaml'}", *resolved]


def _resolved(args: list[str]) -> list[str]:
    named: list[str] = []
    resolved, waiting = [], iter(args)
    for argument in waiting:
        name = None
        if argument in ("-c", "--config"):
            name = next(waiting, None)
            if name is None:
                raise UsageError(f"{argument} needs the name of a config")
        elif argument.startswith(("--config=", "-c=")):
            name = argument.partition("=")[2]
        if name is None:
            resolved.append(argument)
            continue
        path = find_config(name)
        check_config_file(path)
        sys.path.append(str(path.resolve().parent))  # a callback's file may lie beside the config that names it
        if not named:  # a run is called after the first config, unless a config or a flag says otherwise
            named.append(f"--trainer.logger.init_args.name={path.stem}")
        resolved += arguments_of(path)
    return [*named, *resolved]


def _config_of_run(args: list[str]) -> list[str]:
    for position, argument in enumerate(args):
        flag, separator, value = argument.partition("=")
        if flag == "--ckpt_path":
            given = value if separator else "".join(args[position + 1 : position + 2])
            if given == LAST:  # of which run, only a config says
                return []
            path = Path(given)
            check_place(path)
            config = run_directory(path) / "config.yaml"
            if not is_file(config):
                return []
            check_config_file(config)
            return [f"--config={config}"]
    return []


def one_line(message: str) -> str:
    """A parser's message in one line, without its boilerplate.

    Args:
        message: possibly several lines.

    Returns:
        What remains, joined.
    """
    lines = [line.strip() for line in message.splitlines()]
    kept = [line.removeprefix("- ").rstrip(":") for line in lines if line and not _NOISE.match(line)]
    unique = list(dict.fromkeys(kept))
    return _shown(": ".join(unique).replace('Parser key "', 'key "'))


def located(error: Exception) -> str:
    """An error that was not meant for users, in one line, with the place in their code or ours that led to it."""
    frames = traceback.extract_tb(error.__traceback__)
    place = ([frame for frame in frames if "site-packages" not in frame.filename] or frames)[-1]
    text = one_line(str(error)) or "no message"
    return f"{type(error).__name__}: {text} ({place.filename}:{place.lineno})"


def trainer_message(message: str) -> str:
    """What Lightning's trainer refuses, in one line."""
    twice = _TWICE.search(message)
    if twice:
        return f"trainer.callbacks names {twice[1]} twice, and a checkpoint could not tell their states apart; keep one"
    return f"trainer: {one_line(message)}"


def _shown(text: str) -> str:
    """Text that a terminal shows as it is and that fits on a page, whatever a user's value holds."""
    shown = "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 200]} [...] {shown[-200:]}"
