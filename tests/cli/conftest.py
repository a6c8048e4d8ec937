"""Commands as a user types them, in a folder of their own."""

from collections.abc import Callable
from pathlib import Path

import pytest

from spd_lightning.cli.command import DecompositionCLI, main
from tests.tiny_system import DATA, LOSSES, MODEL, trainer

TRAINER = (
    trainer(6, 3)
    + """\
  callbacks+:
    - class_path: MechanismRecovery
      init_args: {chance_draws: 2}
    - class_path: ImportanceHeatmaps
      init_args: {every_n_validations: 1}
    - class_path: ComponentVectors
"""
)
TINY = TRAINER + MODEL + LOSSES + DATA


@pytest.fixture(scope="session", autouse=True)
def _private_cache(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("SPD_LIGHTNING_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty working directory that holds ``tiny.yaml``."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(TINY)
    return tmp_path


@pytest.fixture
def run(folder) -> Callable[..., DecompositionCLI]:
    """Run a command in the folder; ``fit`` uses ``tiny.yaml``."""

    def command(*args: str) -> DecompositionCLI:
        config = ("--config", "tiny.yaml") if args[0] == "fit" else ()
        return main([args[0], *config, *args[1:]])

    return command


@pytest.fixture
def refused(run, folder, capsys) -> Callable[..., str]:
    """Run a command that must be refused: exit code 2, one line on stderr, no run directory. Returns the line."""

    def command(*args: str) -> str:
        capsys.readouterr()
        before = sorted(folder.rglob("runs/**/*"))
        with pytest.raises(SystemExit) as stopped:
            run(*args)
        written = capsys.readouterr().err.replace("\r", "\n").splitlines()
        lines = [line for line in written if line.strip() and "it/s" not in line]  # without progress bars
        assert stopped.value.code == 2, lines
        assert len(lines) == 1, lines
        assert lines[0].startswith("error: ")
        assert "Traceback" not in lines[0]
        assert sorted(folder.rglob("runs/**/*")) == before
        return lines[0]

    return command
