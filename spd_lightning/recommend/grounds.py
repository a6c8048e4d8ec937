"""Proposals in words, each with what it rests on."""

import torch

from spd_lightning.recommend.fitting import Plan
from spd_lightning.recommend.measures import NetworkMeasure
from spd_lightning.recommend.proposals import Proposal
from spd_lightning.recommend.rules import BATCHES, FEWEST, PASSES, PER_COMPONENT, SEEN, STEPS, scarcest
from spd_lightning.recommend.subject import Subject
from spd_lightning.report.notes import duration


def proposals(
    subject: Subject, network: NetworkMeasure, plan: Plan, ties: dict[str, str], importance: tuple[str, str], why: str
) -> tuple[Proposal, ...]:
    """What is proposed beside the sites.

    Args:
        subject: the network with its data.
        network: what was measured of it.
        plan: the sizes.
        ties: sites to the sites that own their components.
        importance: name of the importance function, and its ground.
        why: ground of the distance.
    """
    found = [
        Proposal("sites", f"{sum(plan.components.values())} components", _of_components(plan)),
        Proposal("batch_size", str(plan.batch_size), _of_batch(subject, network, plan)),
        Proposal("max_steps", str(plan.steps), _of_steps(subject, plan)),
        Proposal("importance", *importance),
        Proposal("losses", f"those of default.yaml, {network.distance}", f"{why}; {_of_cost(network)}"),
    ]
    if ties:
        found.append(
            Proposal("ties", ", ".join(f"{a}: {b}" for a, b in ties.items()), "their weights are the same numbers")
        )
    return (*found, Proposal("time", duration(plan.seconds), _of_time(subject, plan)), _memory(plan))


def _of_components(plan: Plan) -> str:
    least = plan.spare * FEWEST
    return f"{plan.spare} times a weight's rank or the features that reach it, whichever are more, and at least {least}"


def _of_batch(subject: Subject, network: NetworkMeasure, plan: Plan) -> str:
    name, share = scarcest(network, plan.components)
    given = plan.batch_size * share
    told = f"{given:.2g} positions that are not empty for each component of {name!r}, where there are fewest"
    wanted = f"{PER_COMPONENT} are wanted"
    if not subject.sizeable:
        return f"the data's own; {told}; {wanted}"
    largest = plan.batch_size == BATCHES[1]
    short = "but no larger batch is proposed" if largest else "for which examples or memory are too few"
    return f"{told}; {wanted}" + (f", {short}" if given < PER_COMPONENT else "")


def _of_steps(subject: Subject, plan: Plan) -> str:
    wanted = f"until each component has seen {SEEN} such positions; {STEPS[0]} to {STEPS[1]}, fewer only on a budget"
    examples = subject.examples
    if examples is None:
        return wanted
    passes = plan.steps * plan.batch_size / examples
    wanted += f"; beyond {STEPS[0]} no more than {PASSES} passes through the data"
    return f"{wanted}; these are {passes:.3g} passes through {examples} examples"


def _of_cost(network: NetworkMeasure) -> str:
    times = f"{network.cost / network.variation:.2g} times" if network.variation > 0 else "where there is no"
    return f"ablating every site costs {network.cost:.3g}, {times} the output's own variation"


def _of_time(subject: Subject, plan: Plan) -> str:
    on = "the GPU" if subject.device.type == "cuda" else f"{torch.get_num_threads()} thread(s) of the CPU"
    return (
        f"{_seconds(plan.step_s)} a step, {_seconds(plan.warming_s)} one of the warm-up, measured on {on} beside "
        "whatever else runs; scores and pictures come on top"
    )


def _memory(plan: Plan) -> Proposal:
    if plan.bytes is None:
        return Proposal("memory", "unknown", "the batch is too small to be measured")
    return Proposal("memory", f"{plan.bytes / 1e6:,.0f} MB", "components, gradients, moments, and what a step holds")


def _seconds(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
