"""Imports run one way, and the mathematics needs no Lightning. Read from the source: importing pulls in all."""

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "spd_lightning"
LEAVES = {"config_files", "errors", "files", "describe", "fingerprint", "tensor_files"}
MAY_IMPORT = {
    "functional": set(),
    "kernels": {"functional", *LEAVES},
    "metrics": {"functional"},
    "figures": {"functional"},
    "model": {"functional", "kernels", *LEAVES},
    "losses": {"functional", "kernels", "model", *LEAVES},
    "targets": {"functional", *LEAVES},
    "data": {"functional", *LEAVES},
    "methods": {"artefact_sizes", "functional", "kernels", "model", "losses", "targets", *LEAVES},
    "report": {"record", "verdict", "errors", "files"},
    # above the command line: what it runs
    "sweep": {
        "cli",
        "arguments",
        "export",
        "planned",
        "record",
        "runs",
        "shadowing",
        "verdict",
        "figures",
        "functional",
        "model",
        "targets",
        *LEAVES,
    },
}
FRAMEWORKS = {"lightning", "pytorch_lightning", "jsonargparse", "tensorboard", "torchmetrics"}
# a convenience of the class's own: the artefact's format belongs to a module that builds on the model
ALLOWED = {("model/decomposed.py", "export"), ("model/attributed.py", "export")}


def _imported(path):
    """Modules that a file imports anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield node.module
            if node.module == "spd_lightning":
                yield from (f"spd_lightning.{alias.name}" for alias in node.names)


def _files(room):
    files = sorted((PACKAGE / room).rglob("*.py"))
    assert files, f"there is no room {room}"
    return files


def _own_rooms(path):
    return {module.split(".")[1] for module in _imported(path) if module.startswith("spd_lightning.")}


def _foreign(path):
    return {module.split(".")[0] for module in _imported(path)}


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_what_is_below_it(room):
    for path in _files(room):
        name = str(path.relative_to(PACKAGE))
        allowed = MAY_IMPORT[room] | {room} | {target for file, target in ALLOWED if file == name}
        assert _own_rooms(path) <= allowed, name
        assert "callbacks" not in _foreign(path), name


@pytest.mark.parametrize("room", ["functional", "kernels", "model", "losses", "targets", "figures"])
def test_the_mathematics_knows_no_framework(room):
    for path in _files(room):
        assert not _foreign(path) & FRAMEWORKS, path


def test_metrics_stand_on_torchmetrics_alone():
    for path in _files("metrics"):
        assert not _foreign(path) & (FRAMEWORKS - {"torchmetrics"}), path


def test_reports_need_nothing_but_the_standard_library():
    for path in _files("report"):
        assert _foreign(path) <= {*sys.stdlib_module_names, "spd_lightning"}, path


def test_leaves_import_nothing_of_ours_but_errors_and_files():
    for leaf in LEAVES:
        path = PACKAGE / f"{leaf}.py"
        assert _own_rooms(path) <= {"errors", "files"} - {leaf}, leaf
        assert not _foreign(path) & FRAMEWORKS, leaf


def test_only_the_command_line_knows_the_callbacks():
    knowing = {path.name for path in PACKAGE.rglob("*.py") if "callbacks" in _foreign(path)}
    assert knowing == {"cli.py"}


def test_callbacks_do_not_import_the_command_line():
    files = sorted((PACKAGE.parent / "callbacks").glob("*.py"))
    assert files
    for path in files:
        assert "cli" not in _own_rooms(path), path


def test_every_room_is_held_to_the_rule():
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms == set(MAY_IMPORT)
