"""``python -m spd_lightning.recommend --config NAME [--minutes N] [--output FILE]``."""

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from lightning.fabric.utilities.exceptions import MisconfigurationException

from spd_lightning.cli.arguments import one_line
from spd_lightning.errors import OneLineParser, UsageError, told_in_one_line
from spd_lightning.files.whole import check_free
from spd_lightning.model.sites import find_sites
from spd_lightning.recommend.proposals import OF_A_SITE
from spd_lightning.recommend.reading import Named, read
from spd_lightning.recommend.recommending import recommend
from spd_lightning.recommend.writing import write_config
from spd_lightning.runs.notices import silence_notices

DESCRIPTION = """\
Propose components, batch, steps and objective for a network of your own, each with its ground.

  python -m spd_lightning.recommend --config my_network.yaml --output my_decomposition.yaml
  python -m spd_lightning fit --config my_decomposition.yaml

The config names model.target, model.recipe and model.call where they are needed, and data. Where it names sites, these
are taken, with other numbers of components; else every matrix that the network multiplies by is one. Further flags are
those of fit, such as --model.recipe.path. Only the network and its data are looked at, and a few steps are timed.
"""


def main(args: Sequence[str] | None = None) -> None:
    """Run the command.

    Args:
        args: arguments; those of the process by default.

    Raises:
        SystemExit: with code 2 and one line on stderr for wrong usage.
    """
    with told_in_one_line(), warnings.catch_warnings():
        silence_notices()
        options, flags = _parser().parse_known_args(args)
        try:
            _run(options, flags)
        except (UsageError, MisconfigurationException) as error:
            raise UsageError(one_line(str(error))) from error


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="python -m spd_lightning.recommend",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", action="append", default=[], help="path or name of a shipped one; several add up")
    parser.add_argument(
        "--minutes", type=float, help="budget for training and its warm-up; default: as long as it takes"
    )
    parser.add_argument("--output", type=Path, help="config to write, which fit takes; it must not exist")
    parser.add_argument("--device", help="where it runs, such as cpu; default: a GPU if there is one")
    return parser


def _run(options: argparse.Namespace, flags: Sequence[str]) -> None:
    if not options.config:
        raise UsageError("--config must name a config with model.target and data; see python -m spd_lightning configs")
    if options.output is not None:
        check_free(options.output)
    named = read([*(f"--config={name}" for name in options.config), *flags])
    found = recommend(
        named.target,
        named.data,
        named.sites,
        call=named.call,
        kinds=named.kinds,
        minutes=options.minutes,
        device=options.device,
        seed=named.config["seed_everything"],
    )
    sys.stdout.write(f"{found.table(_given(named))}\n")
    if options.output is not None:
        write_config(options.output, found, named.config)
        sys.stdout.write(
            f"\nThe config is in {options.output}: python -m spd_lightning fit --config {options.output}\n"
        )


def _given(named: Named) -> dict[str, str]:
    """What the config itself says of what is proposed."""
    size = named.config["data"].get("init_args", {}).get("batch_size")
    said = {} if size is None else {"batch_size": str(size)}
    if named.sites is None:
        return said
    sites = find_sites(named.target, named.sites, named.kinds)
    said |= {OF_A_SITE + name: str(count) for name, (_, count) in sites.items()}
    return said | {"max_steps": str(named.config["trainer"]["max_steps"])}


if __name__ == "__main__":
    main()
