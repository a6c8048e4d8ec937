"""What the check before the first step costs: ``python -m benchmarks.check_cost``.

Every network of the tests' list is wrapped and checked, in the readable and in the fast form; a training step stands
beside it. Each number is the median of several.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial

import torch

from spd_lightning import Faithfulness, ImportanceMinimality, Reconstruction
from spd_lightning.losses import Noise, Step
from spd_lightning.model import DecomposedModel, FastForm, check_wrapping
from tests.networks.models import decomposed
from tests.networks.zoo import ZOO, example

REPEATS = 5
TERMS = (Faithfulness(), Reconstruction(distance="kl"), ImportanceMinimality())


def seconds(call: Callable[[], object]) -> float:
    """Median wall time of a call, after one that is not counted."""
    call()
    taken = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def step(model: DecomposedModel, batch: object) -> None:
    """One loss and its gradients."""
    seen = Step.seen(FastForm(model, batch), Noise(("cost", 0), torch.device("cpu")))
    sum((term(seen) for term in TERMS), torch.zeros(())).backward()


def main() -> None:
    """Print a line per network."""
    torch.manual_seed(0)
    print(f"{'network':32} {'sites':>5} {'check':>9} {'step':>9}")
    costs = []
    for name in ZOO:
        model, batch = decomposed(name), example(name)
        checked = seconds(lambda model=model, batch=batch: check_wrapping(model, batch, partial(FastForm, model)))  # type: ignore[misc]
        stepped = seconds(lambda model=model, batch=batch: step(model, batch))  # type: ignore[misc]
        costs.append(checked)
        print(f"{name:32} {len(model.components):5} {1e3 * checked:6.0f} ms {1e3 * stepped:6.1f} ms", flush=True)
    print(f"between {min(costs):.2f} and {max(costs):.2f} s")


if __name__ == "__main__":
    main()
