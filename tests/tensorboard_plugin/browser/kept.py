"""What a run's files hold, read without the package."""

import json

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file
from scipy.optimize import linear_sum_assignment


class Kept:
    """The files of a run.

    Args:
        folder: the run directory.
    """

    def __init__(self, folder) -> None:
        self.folder = folder

    def arrays(self, name, step=None):
        """Arrays below ``analysis/``, of a saved validation where a step is given."""
        where = self.folder / "analysis"
        return load_file((where if step is None else where / f"steps/step={step}") / f"{name}.safetensors")

    def json(self, *path):
        """Plain data from a file."""
        return json.loads(self.folder.joinpath(*path).read_text())

    def row_labels(self):
        """The labels of the rows of importances."""
        with safe_open(self.folder / "analysis/importances.safetensors", "np") as file:
            return json.loads(file.metadata()["importances"])["row_labels"]

    def graph(self):
        """The arrays and notes of the one graph."""
        (path,) = (self.folder / "analysis/graphs").glob("*.safetensors")
        return load_file(path), json.loads(path.with_suffix(".json").read_text())

    def harvest(self):
        """Rows of the harvest by component."""
        lines = (self.folder / "analysis/harvest.jsonl").read_text().splitlines()
        return {(row["call"], row["component"]): row for row in map(json.loads, lines)}

    def most_frequent(self, step=None):
        """Live components as ``call:number`` with their density, those first that are important most often."""
        density = self.arrays("density", step)
        found = [(f"{call}:{n}", float(d)) for call, values in density.items() for n, d in enumerate(values) if d > 0]
        return sorted(found, key=lambda one: -one[1])

    def vectors(self, site, number):
        """A component's read vector, of length 1, and its write vector with the length that the other had."""
        state, name = load_file(self.folder / "components.safetensors"), site.replace(".", "-")
        read, write = state[f"components.{name}.V"][:, number], state[f"components.{name}.U"][number]
        return read / np.linalg.norm(read), write * np.linalg.norm(read)


def best_cosines(a, b, site):
    """Cosines of the live components of a site in two runs, matched one to one, the largest first."""
    matrices = []
    for run in (a, b):
        living = np.flatnonzero(run.arrays("density")[site])
        products = [np.outer(*run.vectors(site, number)).ravel() for number in living]
        matrices.append(np.stack([product / np.linalg.norm(product) for product in products]))
    cosines = matrices[0] @ matrices[1].T
    return sorted(cosines[linear_sum_assignment(cosines, maximize=True)], reverse=True)
