"""How the time of a step grows with the sizes of a system, one at a time."""

from collections.abc import Callable
from typing import Any

from tqdm import tqdm

from benchmarks import systems
from benchmarks.loops import Kind, Loop
from benchmarks.options import Options
from benchmarks.timing import in_turn, summary

BASE = "paper/tms_40-10-id"
KINDS: tuple[Kind, ...] = ("plain", "fast")


def with_components(config: systems.Config, count: int) -> None:
    """``C`` of every site."""
    config["model"]["sites"] = dict.fromkeys(config["model"]["sites"], count)


def with_batch(config: systems.Config, size: int) -> None:
    """Examples that a batch stands for."""
    config["data"]["init_args"]["batch_size"] = size


def with_hidden(config: systems.Config, width: int) -> None:
    """Hidden width of the gates."""
    gate = {"class_path": "GateMLP", "init_args": {"hidden": [width]}}
    config["model"]["importance"] = {"class_path": "PerSite", "init_args": {"function": gate}}


def with_sites(config: systems.Config, count: int) -> None:
    """Number of sites: two ends and identity layers between them."""
    model = config["model"]
    components = model["sites"]["linear1"]
    model["target"]["init_args"]["n_identity_layers"] = count - 2
    layers = ["linear1", *(f"hidden_layers.{index}" for index in range(count - 2)), "linear2"]
    model["sites"] = dict.fromkeys(layers, components)


CURVES: dict[str, tuple[Callable[[systems.Config, int], None], tuple[int, ...]]] = {
    "components per site": (with_components, (25, 50, 100, 200, 400)),
    "batch size": (with_batch, (512, 1024, 2048, 4096, 8192)),
    "hidden width of the gates": (with_hidden, (4, 16, 64, 128)),
    "sites": (with_sites, (2, 3, 4, 6)),
}


def measure(options: Options) -> list[dict[str, Any]]:
    """One row per curve, size and form, around the 40-10 toy model with an identity layer."""
    points = [(curve, size) for curve, (_, sizes) in CURVES.items() for size in (sizes[:2] if options.quick else sizes)]
    rows: list[dict[str, Any]] = []
    with tqdm(points, desc="Curves") as bar:
        for curve, size in bar:
            bar.set_postfix_str(f"{curve}: {size}")
            rows += _point(curve, size, options)
    return rows


def _point(curve: str, size: int, options: Options) -> list[dict[str, Any]]:
    config = systems.read(BASE)
    CURVES[curve][0](config, size)
    loops = {str(kind): Loop(config, kind) for kind in KINDS}
    seconds: dict[str, list[float]] = {kind: [] for kind in loops}
    for kind, block in in_turn(loops, options.seconds / 4, options.least):
        seconds[kind] += block
    return [{"curve": curve, "size": size, "kind": kind} | summary(seconds[kind]) for kind in loops]
