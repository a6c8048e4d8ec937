"""Imports run one way, and the mathematics needs no Lightning. Read from the source: importing pulls in all."""

import ast
import importlib
import inspect
import re
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import lightning
import pytest

PACKAGE = Path(__file__).parent.parent / "spd_lightning"
MAY_IMPORT = {
    "functional": set(),
    "files": {"errors"},
    "kernels": {"functional", "files"},
    "metrics": {"functional"},
    "figures": {"functional"},
    "targets": {"functional", "files", "errors"},
    "data": {"functional", "files", "errors"},
    "model": {"kernels", "functional", "errors"},
    "losses": {"model", "functional", "errors"},
    "parallel": {"model", "errors", "lightning_private"},
    "artefact": {"model", "targets", "files", "errors"},
    "methods": {
        "artefact",  # what a checkpoint of the method may hold is checked like an artefact
        "parallel",
        "losses",
        "model",
        "kernels",
        "functional",
        "targets",
        "files",
        "errors",
        "lightning_private",
    },
    "runs": {"methods", "artefact", "data", "model", "functional", "files", "errors"},
    "report": {"runs", "files", "errors"},
    "tensorboard_plugin": {"runs", "report", "files", "errors"},
    "analysis": {"runs", "artefact", "losses", "model", "figures", "functional", "targets", "files", "errors"},
    "callbacks": {
        "analysis",
        "artefact",
        "figures",
        "files",
        "functional",
        "losses",
        "methods",
        "metrics",
        "model",
        "parallel",
        "report",
        "runs",
        "targets",
        "errors",
        "lightning_private",
    },
    "cli": {
        "callbacks",
        "report",
        "runs",
        "artefact",
        "methods",
        "parallel",
        "data",
        "targets",
        "files",
        "errors",
        "lightning_private",
    },
    "notebook": {"callbacks", "data", "functional", "losses", "methods", "model", "runs", "errors"},
    # above the command line: what it runs, and what reads its configs
    "recommend": {
        "analysis",
        "cli",
        "data",
        "files",
        "functional",
        "losses",
        "methods",
        "model",
        "notebook",
        "report",
        "runs",
        "sweep",
        "errors",
        "lightning_private",
    },
    "sweep": {"cli", "runs", "artefact", "figures", "targets", "functional", "files", "errors"},
}
LOOSE = {"errors", "_threads", "lightning_private"}
FRAMEWORKS = {"lightning", "pytorch_lightning", "jsonargparse", "tensorboard", "torchmetrics"}
MATHEMATICS = ["files", "functional", "kernels", "model", "losses", "targets", "figures", "analysis"]

PRIVATE_OF_LIGHTNING = {
    "cli/command.py": (
        "Lightning offers no public place to change this",
        {"_prepare_subcommand_parser", "_parse_ckpt_path", "_run_subcommand", "_prepare_subcommand_kwargs"},
    ),
    "sweep/configs.py": (
        "a command line that reads configs and runs nothing; only the subcommand's own parser can write them out",
        {"_set_seed", "_run_subcommand", "_parser"},
    ),
    "parallel/strategy.py": ("the strategy's own number, which its base sets too late", {"_data_parallel_size"}),
    "callbacks/checkpoints.py": (
        "a ModelCheckpoint that saves at another time; naming, keeping and removing files stay Lightning's",
        {
            "_monitor_candidates",
            "_last_global_step_saved",
            "_should_skip_saving_checkpoint",
            "_save_last_checkpoint",
            "_every_n_train_steps",
            "_save_topk_checkpoint",
        },
    ),
}
"""What lies outside ``lightning_private.py``, each with its reason: what a class of Lightning's is extended by."""


def _tree(path):
    return ast.parse(path.read_text())


def _modules(path):
    """Modules that are imported anywhere in a file."""
    for node in ast.walk(_tree(path)):
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


def _all_files():
    return [*sorted(PACKAGE.glob("*.py")), *(path for room in MAY_IMPORT for path in _files(room))]


def _name(path):
    return path.relative_to(PACKAGE).as_posix()


def _own_rooms(path):
    return {module.split(".")[1] for module in _modules(path) if module.startswith("spd_lightning.")}


def _foreign(path):
    return {module.split(".")[0] for module in _modules(path)}


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_what_is_below_it(room):
    for path in _files(room):
        assert _own_rooms(path) <= MAY_IMPORT[room] | {room}, _name(path)
        assert "callbacks" not in _foreign(path), f"{_name(path)} imports a folder of the user's"


def test_no_room_asks_for_another_by_the_name_in_a_string():
    """Which would be an import that no other test here sees; one place imports what a user's file names, if asked."""
    for path in _all_files():
        if _name(path) == "files/describe.py":
            continue
        called = {ast.unparse(node.func) for node in ast.walk(_tree(path)) if isinstance(node, ast.Call)}
        assert not called & {"importlib.import_module", "import_module", "__import__"}, _name(path)


def test_there_is_no_circle_among_rooms():
    order = list(TopologicalSorter(MAY_IMPORT).static_order())  # raises where there is one

    assert set(order) - set(MAY_IMPORT) <= LOOSE


def test_only_what_runs_a_trainer_knows_the_callbacks():
    knowing = {room for room in MAY_IMPORT for path in _files(room) if "callbacks" in _own_rooms(path)}
    assert knowing == {"cli", "notebook", "callbacks"}


def test_every_room_is_held_to_the_rule():
    folders = {path.parent.name for path in PACKAGE.glob("*/*.py")}
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}

    assert folders == rooms == set(MAY_IMPORT)


def test_few_modules_are_in_no_room():
    loose = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}

    assert loose == LOOSE
    assert len(loose) <= 3
    for module in loose:
        assert not _own_rooms(PACKAGE / f"{module}.py"), module


@pytest.mark.parametrize("room", MATHEMATICS)
def test_the_mathematics_knows_no_framework(room):
    for path in _files(room):
        assert not _foreign(path) & FRAMEWORKS, path


def test_metrics_stand_on_torchmetrics_alone():
    for path in _files("metrics"):
        assert not _foreign(path) & (FRAMEWORKS - {"torchmetrics"}), path


def test_reports_need_nothing_but_the_standard_library():
    for path in _files("report"):
        assert _foreign(path) <= {*sys.stdlib_module_names, "spd_lightning"}, path


def test_the_room_of_the_command_line_opens_without_the_command():
    assert not set(_modules(PACKAGE / "cli/__init__.py"))


def test_the_package_s_callbacks_are_those_of_the_folder():
    """A link in a checkout, which some systems write as a text file; a folder of its own in an sdist."""
    linked = {path.name: path.read_text() for path in (PACKAGE / "callbacks").glob("*.py")}

    assert linked
    assert linked == {path.name: path.read_text() for path in (PACKAGE.parent / "callbacks").glob("*.py")}


def test_nothing_asks_whether_components_span_sites():
    """The two methods differ in their grouping, which is asked instead."""
    for path in _all_files():
        assert "spans_sites" not in path.read_text(), _name(path)


def _is_type_of(node):
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "type" and len(node.args) == 1


def test_no_class_is_compared_by_identity():
    for path in _all_files():
        compared = [node for node in ast.walk(_tree(path)) if isinstance(node, ast.Compare)]
        found = [ast.unparse(node) for node in compared if any(map(_is_type_of, [node.left, *node.comparators]))]
        assert not found, f"{_name(path)} would leave out subclasses: {found}"


PRIVATE = re.compile(r"(?:\bdef |\bself\.)(_(?!_)\w+)")


def _is_private(name):
    return name.startswith("_") and not name.startswith("__")


def _defined(trees):
    """Private names that the package itself defines."""
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_own(node):
            yield node.attr


def _is_own(attribute):
    return ast.unparse(attribute.value) in ("self", "cls", "super()")


def _inherited(path):
    """Private names of Lightning's that the classes of a file use, or put something else in the place of."""
    module = importlib.import_module(
        ".".join(["spd_lightning", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")
    )
    for node in _tree(path).body:
        if not isinstance(node, ast.ClassDef):
            continue
        bases = [base for base in getattr(module, node.name).__mro__ if base.__module__.startswith("lightning.")]
        theirs = {name for base in bases for name in PRIVATE.findall(inspect.getsource(base))}
        inner = list(ast.walk(node))
        yield from (one.name for one in inner if isinstance(one, ast.FunctionDef) and one.name in theirs)
        yield from (one.attr for one in inner if isinstance(one, ast.Attribute) and _is_own(one) and one.attr in theirs)


def _private_of_lightning(path, theirs, ours):
    """Private names of Lightning's that a file imports, asks of an object, or inherits."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "lightning":
            yield from filter(_is_private, [*node.module.split("."), *(alias.name for alias in node.names)])
        elif isinstance(node, ast.Attribute) and _is_private(node.attr) and not _is_own(node):
            yield from {node.attr} & theirs - ours
    yield from _inherited(path)


def test_what_is_private_in_lightning_is_used_in_one_module():
    theirs = {n for path in Path(lightning.__path__[0]).rglob("*.py") for n in PRIVATE.findall(path.read_text())}
    asked = [path for path in _all_files() if path.name not in ("lightning_private.py", "__main__.py")]
    asked = [path for path in asked if _name(path).split("/")[0] not in MATHEMATICS]  # no Lightning there
    ours = set(_defined(map(_tree, asked)))
    found = {_name(path): set(_private_of_lightning(path, theirs, ours)) for path in asked}

    assert "_should_accumulate" in theirs - ours
    assert {name: names for name, names in found.items() if names} == {
        name: names for name, (_, names) in PRIVATE_OF_LIGHTNING.items()
    }
