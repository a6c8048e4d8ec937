"""A network and its data as configs name them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from jsonargparse import Namespace
from lightning import LightningDataModule, seed_everything
from torch import nn

from spd_lightning.cli.arguments import NO_SUBTYPE, one_line, with_shipped_configs
from spd_lightning.cli.method_choice import chosen_method
from spd_lightning.data.keyed import KeyedData
from spd_lightning.errors import UsageError
from spd_lightning.model import Site, TargetCall
from spd_lightning.sweep.configs import Config, ConfigReader

NO_SITES = "--model.sites={}"
"""Stands before the configs, for those that name none."""


class Named(NamedTuple):
    """What configs name.

    Attributes:
        target: the network, with its weights.
        data: its data module.
        call: how a batch becomes its arguments; ``None`` for the automatic one.
        kinds: kinds of sites of your own.
        sites: patterns to components; ``None`` where none are named.
        config: all of it as plain data.
    """

    target: nn.Module
    data: LightningDataModule
    call: TargetCall | None
    kinds: list[type[Site]]
    sites: dict[str, int] | None
    config: Config


def read(arguments: Sequence[str]) -> Named:
    """Build a network and its data as ``fit`` would, and nothing else.

    Args:
        arguments: of ``fit``: configs and flags.

    Returns:
        The network, trained if its recipe trains it.

    Raises:
        UsageError: for whatever ``fit`` would refuse, another method, or configs that name no data.
    """
    method = chosen_method(with_shipped_configs(["fit", *arguments])).method
    if method != "spd":
        raise UsageError(f"method must be 'spd' for a recommendation, got {method!r}; leave it out")
    reader = ConfigReader([NO_SITES, *arguments, "--trainer.logger=false"])
    config = reader.last()
    if not config.get("data"):
        raise UsageError("data must name a data module: what reaches the network decides; add data: to the config")
    seed_everything(config["seed_everything"], verbose=False)  # a network without a recipe is drawn, as fit draws it
    model, data = _built(reader)
    if isinstance(data, KeyedData) and data.seed is None:
        data.seed = config["seed_everything"]
    if model.recipe is not None:
        model.recipe.prepare(model.target)
    return Named(model.target, data, model.call, list(model.kinds or []), dict(model.sites) or None, config)


def _built(reader: ConfigReader) -> tuple[Namespace, LightningDataModule]:
    """The arguments of the decomposition, built, and the data module; not the decomposition itself."""
    settings = reader.config["fit"]
    settings.trainer.callbacks = None
    try:
        built: Any = reader.parser.instantiate_classes(reader.config, instantiate_groups=False)["fit"]
    except ValueError as error:
        if isinstance(error, UsageError) or not str(error).startswith(NO_SUBTYPE):
            raise
        raise UsageError(one_line(str(error))) from None
    return built.model, built.data
