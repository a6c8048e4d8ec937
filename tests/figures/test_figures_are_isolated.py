import subprocess
import sys
from pathlib import Path

import spd_lightning

# The package's own __init__ imports lightning, whose metrics import pyplot; an empty parent shows what figures import.
PROGRAM = """
import sys, types
parent = types.ModuleType("spd_lightning")
parent.__path__ = [sys.argv[1]]
sys.modules["spd_lightning"] = parent

import matplotlib
settings = lambda: {key: matplotlib.rcParams[key] for key in matplotlib.rcParams if key != "backend"}
before = settings()
import torch
from spd_lightning.figures import ablation_dots, component_vectors, importance_heatmap, importance_histograms
from spd_lightning.figures import contribution_agreement, feature_contributions, network_diagram
from io import BytesIO
for figure in (
    importance_heatmap({"a": torch.rand(5, 20)}),
    importance_histograms({"a": torch.rand(5)}),
    ablation_dots({"unmasked": 0.1}),
    component_vectors(torch.rand(2, 5), torch.rand(5, 3), torch.rand(3, 2), [0], "a"),
    contribution_agreement({"a": torch.rand(3, 2)}, {"a": torch.rand(3, 2)}),
    feature_contributions({"a": torch.rand(3, 2)}, {"a": torch.rand(3, 2)}, {"a": torch.zeros(3)}),
    network_diagram({"a": (torch.rand(2, 5), torch.rand(5, 3), torch.rand(3, 2))}, {"a": [0]}, "a"),
):
    figure.savefig(BytesIO(), format="png")
assert settings() == before, "rcParams changed"
for module in ("matplotlib.pyplot", "lightning", "spd_lightning.model", "tensorboard"):
    assert module not in sys.modules, module
"""


def test_figures_import_neither_pyplot_nor_the_rest_of_the_package():
    folder = str(Path(spd_lightning.__file__).parent)
    done = subprocess.run([sys.executable, "-c", PROGRAM, folder], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
