"""Edits of a decomposed induction network: its induction head removed, and the induction of one token.

    python -m benchmarks.induction_edits RUN_DIR

Prints what docs/attention-circuits.md quotes. The head's components are held against the target whose head is silent.
Of a token, components are removed in the order of what their removal costs its own sequences beyond the others', until
a quarter of its answers are right; both are chosen on training sequences and told on test sequences.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from spd_lightning.analysis import Edit, components_of_head, edited, silent_head
from spd_lightning.analysis.edit_effect import alive_anywhere
from spd_lightning.data import InductionSequences
from spd_lightning.functional import ALIVE_THRESHOLD
from spd_lightning.model import ComponentModel
from spd_lightning.runs.reopened import reopened
from spd_lightning.targets import AttentionOnly

SEQUENCES = 2048
GONE = 0.25
"""Share of right answers below which a token's induction counts as gone."""
MOST = 40
"""Components that are removed for one token."""


def scores(network: nn.Module, data: InductionSequences) -> Tensor:
    """Cross entropy and share of right answers, by the token that is asked for, ``[2, vocabulary]``."""
    output, answers = network(data.tokens), torch.tensor(data.answers)
    right = (output.argmax(1) == answers).float()
    table = torch.stack([cross_entropy(output, answers, reduction="none"), right])
    asked = data.tokens[:, -1]
    return torch.stack([table[:, asked == token].mean(1) for token in range(data.vocabulary)], 1)


def head_edits(model: ComponentModel, batches: Iterable[Any]) -> list[Edit]:
    """Removals of all components of the last layer's head that are important anywhere."""
    alive = alive_anywhere(model, batches, ALIVE_THRESHOLD)
    last = cast(AttentionOnly, model.target).n_layers - 1
    found = components_of_head(dict(model.components.items()), alive, f"layers.{last}", 0, 1)
    return [Edit(name, number) for name, numbers in found.items() for number in numbers]


def head_lines(model: ComponentModel, edits: Sequence[Edit], data: InductionSequences) -> Iterator[str]:
    """The network without the head's components, beside the one whose head is silent."""
    target = cast(AttentionOnly, model.target)
    networks = {"the target": target, f"{len(edits)} components removed": edited(model, edits)}
    found = {name: scores(network, data).mean(1) for name, network in networks.items()}
    with silent_head(target, target.n_layers - 1, 0):
        found["head silent"] = scores(target, data).mean(1)
    yield from (f"{name}: loss {loss:.4f}, right {right:.3f}" for name, (loss, right) in found.items())


def for_token(model: ComponentModel, token: int, order: Sequence[Edit], fit: InductionSequences) -> list[Edit]:
    """The first components of an order without which a token's induction is gone."""
    for count in range(1, MOST + 1):
        if scores(edited(model, order[:count]), fit)[1, token] < GONE:
            return list(order[:count])
    return list(order[:MOST])


def token_lines(model: ComponentModel, fit: InductionSequences, test: InductionSequences) -> Iterator[str]:
    """The induction of every token removed in turn."""
    single = [Edit(name, number) for name, parts in model.components.items() for number in range(parts.n_components)]
    before = scores(model.target, fit)[0]
    rises = torch.stack([scores(edited(model, [edit]), fit)[0] - before for edit in single])
    rows = []
    for token in range(fit.vocabulary):
        others = torch.arange(fit.vocabulary) != token
        gain = rises[:, token] - rises[:, others].sum(1)
        chosen = for_token(model, token, [single[number] for number in gain.argsort(descending=True)], fit)
        loss, right = scores(edited(model, chosen), test)
        rows.append([len(chosen), right[token], right[others].mean(), loss[others].mean()])
    count, own, right, loss = torch.tensor(rows).T
    yield f"one token: {count.mean():.0f} components removed, {own.mean():.2f} of its own answers right"
    yield f"below {GONE}: {int((own < GONE).sum())} of {fit.vocabulary} tokens"
    yield f"the others: {right.mean():.3f} right, loss {loss.mean():.4f}"


@torch.no_grad()
def main() -> None:
    """Measure a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="RUN_DIR", help="finished run of induction.yaml")
    run = reopened(parser.parse_args().folder)
    target = cast(AttentionOnly, run.model.target)
    sizes = target.embed.num_embeddings, target.length, SEQUENCES
    fit, test = (InductionSequences(*sizes, split=split, seed=7) for split in ("train", "test"))
    lines = [*head_lines(run.model, head_edits(run.model, run.batches), test), *token_lines(run.model, fit, test)]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
