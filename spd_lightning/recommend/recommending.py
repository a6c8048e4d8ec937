"""From a trained network and its data to what to take it apart with."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from spd_lightning.errors import UsageError, check_number
from spd_lightning.files.describe import describe
from spd_lightning.files.progress import progress
from spd_lightning.losses import guessed_distance
from spd_lightning.methods import StochasticDecomposition, Warmup, default_recipe
from spd_lightning.model import AutomaticCall, DecomposedModel, Site, TargetCall, check_wrapping
from spd_lightning.model.acceptance import taking
from spd_lightning.model.sites import find_sites
from spd_lightning.notebook.examples import Data, as_data_module, prepared
from spd_lightning.recommend.candidates import Candidates, find_candidates
from spd_lightning.recommend.equal_weights import equal_weights
from spd_lightning.recommend.fitting import Fitting, Plan
from spd_lightning.recommend.grounds import proposals
from spd_lightning.recommend.measures import NetworkMeasure, measure
from spd_lightning.recommend.proposals import Recommendation
from spd_lightning.recommend.rules import importance_for
from spd_lightning.recommend.subject import Subject

STAGES = ("which modules are sites", "what reaches them", "a short trial")


def recommend(
    target: nn.Module,
    data: Data,
    sites: Mapping[str, int] | None = None,
    *,
    call: TargetCall | None = None,
    kinds: Sequence[type[Site]] | None = None,
    minutes: float | None = None,
    batch_size: int = 256,
    device: str | None = None,
    seed: int = 0,
    show: bool = True,
) -> Recommendation:
    """Propose components, batch, steps and objective for a network, each with its ground.

    What is looked at is the network and its data; known mechanisms, if it states any, are never asked for. A few real
    steps of training are taken on a decomposition that is then discarded.

    Args:
        target: the trained network; it is frozen and put into eval mode.
        data: examples as the network takes them: a tensor ``[examples, ...]``, a dataset, a loader or a data module.
        sites: patterns of module paths, whose numbers of components are proposed anew; ``None`` for every matrix that
            the network multiplies by.
        call: how a batch becomes the network's arguments; ``None`` for ``AutomaticCall``.
        kinds: kinds of sites of your own.
        minutes: budget for training and its warm-up; ``None`` for as long as it takes.
        batch_size: examples that are looked at together, of a tensor or a dataset.
        device: where it runs; ``None`` for a GPU if there is one.
        seed: of the data's order and the trial.
        show: whether a progress bar is shown.

    Returns:
        The proposals and what they rest on.

    Raises:
        UsageError: for a network without a site, data that do not fit, or a budget that fits nothing.
    """
    if minutes is not None:
        check_number("minutes", minutes)
        if not 0 < minutes < float("inf"):
            raise UsageError(f"minutes must be a number above 0, got {minutes}")
    module_data = prepared(as_data_module(data, None, batch_size, seed), "fit")
    place = _device(device)
    call = AutomaticCall() if call is None else call
    subject = Subject(target.requires_grad_(False).eval().to(place), module_data, call, kinds or (), place, seed)
    call.bind(subject.target)
    with progress("Looking at the network", total=len(STAGES), show=show) as bar:
        batch = subject.first_batch()
        found = _sites(subject, batch, sites)
        bar.update()
        network, found, why = _measured(subject, batch, found, keep=sites is not None)
        bar.update()
        return _recommended(subject, network, found, why, minutes)


def _device(name: str | None) -> torch.device:
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch raises either for a device that is not there
        reason = str(error).splitlines()[0]
        raise UsageError(f"device {name!r} cannot be used ({reason}); name another, such as cpu") from None
    return device


def _sites(subject: Subject, batch: Any, given: Mapping[str, int] | None) -> Candidates:
    if given is None:
        return find_candidates(subject.target, subject.call, batch, subject.kinds)
    return Candidates(tuple(find_sites(subject.target, given, subject.kinds)), {})


def _measured(subject: Subject, batch: Any, found: Candidates, keep: bool) -> tuple[NetworkMeasure, Candidates, str]:
    """What was measured, the sites that do something, and why outputs are compared as they are."""
    model = _probe(subject, found)
    check_wrapping(model, batch)
    with torch.no_grad(), taking(subject.call, batch):
        kind, why = guessed_distance(subject.call, batch, model.clean(batch).output)
    network = measure(model, subject.batches(), kind)
    idle = [] if keep else [name for name, site in network.sites.items() if site.cost == 0]
    for name in idle:
        del network.sites[name]
    left_out = found.left_out | dict.fromkeys(idle, "ablating it alone changes nothing")
    return network, Candidates(tuple(network.sites), left_out), why


def _probe(subject: Subject, found: Candidates) -> DecomposedModel:
    """A decomposition that serves to run the network."""
    ones = dict.fromkeys(found.sites, 1)
    return DecomposedModel(subject.target, ones, subject.call, kinds=subject.kinds).to(subject.device)


def _recommended(
    subject: Subject, network: NetworkMeasure, found: Candidates, why: str, minutes: float | None
) -> Recommendation:
    importance, importance_ground = importance_for(network)
    every = find_sites(subject.target, dict.fromkeys(found.sites, 1), subject.kinds)
    shared, ties = equal_weights({name: site for name, (site, _) in every.items()})
    recipe = partial(default_recipe, network.distance, importance)  # anew each time: a trial moves the price
    build = partial(_decomposition, subject, recipe, ties)
    given = subject.batch_size
    try:
        plan = Fitting(subject, network, shared | ties, build).fitted(minutes)
    finally:
        subject.use_batches_of(given)  # what the caller gave stays as it was
    described = describe(build(plan).model.importance_function)
    return Recommendation(
        sites=plan.components,
        left_out=found.left_out,
        ties=ties,
        batch_size=plan.batch_size,
        steps=plan.steps,
        recipe=recipe(),
        importance=importance,
        distance=network.distance,
        measured=network,
        seconds=plan.seconds,
        bytes=plan.bytes,
        proposals=proposals(subject, network, plan, ties, (_named(described), importance_ground), why),
        given_up=plan.given_up,
        described=described,
    )


def _named(described: Mapping[str, Any]) -> str:
    """A class and the one that it is made of, by their names."""
    inner = described["init_args"].get("function")
    name = str(described["class_path"]).rpartition(".")[2]
    return name if inner is None else f"{name} of {_named(inner)}"


def _decomposition(
    subject: Subject, recipe: Callable[[], dict[str, Any]], ties: dict[str, str], plan: Plan
) -> StochasticDecomposition:
    return StochasticDecomposition(
        subject.target,
        plan.components,
        call=subject.call,
        ties=ties,
        kinds=list(subject.kinds) or None,
        seed=subject.seed,
        **recipe() | {"warmup": Warmup()},  # a trial is timed, not trained
    ).to(subject.device)
