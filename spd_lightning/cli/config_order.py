"""Which of several configs has the last word."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml

from spd_lightning.files.whole import is_file

CONFIG = "--config="
FEW = 3


def notes_on_order(arguments: Sequence[str]) -> Iterator[str]:
    """What a config without a target loses to one that names a target and is given later; it is meant to come last.

    Args:
        arguments: with every config an existing path that was checked.

    Yields:
        A line for each such pair.
    """
    named = [Path(argument.removeprefix(CONFIG)) for argument in arguments if argument.startswith(CONFIG)]
    paths = [path for path in named[1:] if is_file(path)]  # the first is base.yaml; parts of a file may follow as text
    if len(paths) < 2:  # one is simply used; it is parsed later, and need not be here
        return
    # values as text: what one of them means, and whether it means anything, is left to the parser
    configs = [(path, yaml.load(path.read_text(encoding="utf-8-sig"), yaml.BaseLoader)) for path in paths]
    for (earlier, part), (later, whole) in combinations(configs, 2):
        keys = [key for key in _keys(part) if key in _keys(whole)]
        if keys and _names_target(whole) and not _names_target(part):
            listed = ", ".join(keys[:FEW]) + f" and {len(keys) - FEW} more" * (len(keys) > FEW)
            yield (
                f"{later.name} replaces {listed} of {earlier.name}; to train by {earlier.name}, give it last: "
                f"--config {later.name} --config {earlier.name}"
            )


def _keys(config: Mapping[str, Any]) -> list[str]:
    """Dotted names of two parts, those that configs are replaced by."""
    parts = [(key, value if isinstance(value, Mapping) else {None: value}) for key, value in config.items()]
    return [key if name is None else f"{key}.{name}" for key, part in parts for name in part]


def _names_target(config: Mapping[str, Any]) -> bool:
    return "model.target" in _keys(config)
