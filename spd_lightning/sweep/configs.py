"""What each point's config says, read without building anything."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from spd_lightning.cli.arguments import one_line, with_shipped_configs
from spd_lightning.cli.command import DecompositionCLI
from spd_lightning.cli.near import suggestion
from spd_lightning.cli.settings import LARGEST_SEED
from spd_lightning.errors import UsageError
from spd_lightning.sweep.grid import SEED, Point

Config = Mapping[str, Any]

OWN = (
    "config",
    "ckpt_path",
    "resume",
    "trainer.logger",
    "trainer.logger.save_dir",
    "trainer.logger.name",
    "trainer.logger.version",
)
"""Keys that a sweep sets itself, ``init_args`` left out."""

_MISSING = object()


class ConfigReader(DecompositionCLI):
    """Parses the arguments of ``fit`` and checks them; builds, seeds and runs nothing.

    Args:
        arguments: what all runs share, without ``fit``.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        self._shared = list(arguments)
        super().__init__(with_shipped_configs(["fit", *self._shared]))

    def read(self, settings: Mapping[str, str], point: Point | None = None) -> Config:
        """The whole config of one point.

        Args:
            settings: values by dotted key that all points share.
            point: values by swept key.

        Returns:
            Plain data, in the form that a run saves.

        Raises:
            UsageError: naming key and value if a value is refused.
        """
        flags = [f"--{key}={value}" for key, value in {**settings, **(point or {})}.items()]
        try:
            self.parse_arguments(self.parser, with_shipped_configs(["fit", *self._shared, *flags]))
            self.before_instantiate_classes()
        except UsageError as error:
            given = point or settings
            raise UsageError(one_line(f"{stated(given)}: {error}" if given else str(error))) from None
        return self.last()

    def last(self) -> Config:
        """The whole config that was read last; of a new reader, what all runs share."""
        dumped = self._parser("fit").dump(self.config["fit"], skip_none=False)
        config: Config = yaml.safe_load(dumped)
        return config

    def _set_seed(self) -> None:
        """Leave every generator alone."""

    def instantiate_classes(self) -> None:
        """Build nothing."""

    def after_instantiate_classes(self) -> None:
        """Nothing was built."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Run nothing."""


def read_configs(
    configs: Iterable[str], settings: Mapping[str, str], points: Sequence[Point]
) -> tuple[Config, list[Config]]:
    """Read the config of every point, after checking that all keys exist.

    Args:
        configs: what ``--config`` is given.
        settings: dotted keys and values of every run.
        points: values by swept key.

    Returns:
        The config without any swept value, and one per point.

    Raises:
        UsageError: if a key is unknown or the sweep's own, or a value is refused; nothing has been written.
    """
    _check_free([*settings, *points[0]])
    shared = [word for config in configs for word in ("--config", config)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"LightningCLI's args parameter.*")
        reader = ConfigReader(shared)
        plain = reader.read({})
        for key in settings:
            _check_known(plain, key.removesuffix("+"), may_be_new=True)
        default = reader.read(settings) if settings else plain
        for key in points[0]:
            _check_known(default, key)
        return default, _read_points(reader, default, settings, points)


def _read_points(
    reader: ConfigReader, default: Config, settings: Mapping[str, str], points: Sequence[Point]
) -> list[Config]:
    """The config of every point. Reading one takes about a second, so that points which differ in the seed share it."""
    known: list[tuple[Point, Config]] = [({}, default)]
    found = []
    for point in points:
        others = {key: value for key, value in point.items() if key != SEED}
        same = next((config for values, config in known if values == others), None)
        if same is None or not _is_seed(point.get(SEED, "")):
            same = reader.read(settings, point)
            known.append((others, same))
        found.append({**same, SEED: int(point[SEED])} if _is_seed(point.get(SEED, "")) else same)
    return found


def _is_seed(text: str) -> bool:
    """Whether it means a seed that every run may have, as it stands: ``010`` would be read as 8."""
    return text.isdecimal() and str(int(text)) == text and int(text) <= LARGEST_SEED


def lookup(config: Config, key: str, default: Any = None) -> Any:
    """The value under a dotted key; ``init_args`` may be left out of it, as on the command line.

    Args:
        config: plain data.
        key: for example ``model.losses.importance.coefficient``.
        default: what to return if there is nothing under the key.
    """
    value: Any = config
    for part in key.split("."):
        if isinstance(value, Mapping) and part not in value and isinstance(value.get("init_args"), Mapping):
            value = value["init_args"]
        if not isinstance(value, Mapping) or part not in value:
            return default
        value = value[part]
    return value


def stated(point: Point) -> str:
    """A point as ``key=value`` pairs."""
    return ", ".join(f"{key}={value}" for key, value in point.items())


def _check_free(keys: Sequence[str]) -> None:
    for key in keys:
        if key.removesuffix("+").replace(".init_args", "") in OWN:
            raise UsageError(f"{key} is set by the sweep itself; leave it out, or use --config, --output or --name")


def _check_known(config: Config, key: str, may_be_new: bool = False) -> None:
    """Raise unless the config has the key or, where that will do, what the key would be an entry of."""
    parent = key.rpartition(".")[0]
    known = lookup(config, key, _MISSING) is not _MISSING
    if known or (may_be_new and parent and lookup(config, parent, _MISSING) is not _MISSING):
        return
    raise UsageError(f"{key} is not a key of this config{suggestion(key, _leaves(config))}")


def _leaves(config: Config, start: str = "") -> list[str]:
    found = []
    for name, value in config.items():
        inner = start if name == "init_args" else f"{start}{name}."
        found += _leaves(value, inner) if isinstance(value, Mapping) else [inner.removesuffix(".")]
    return found
