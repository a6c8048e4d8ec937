"""A config that makes no sense ends in one line that names the key, before anything is written or trained."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from spd_lightning.cli.command import main
from tests.reliability import bad_configs
from tests.reliability.bad_configs import Case

PARAMETERS = [*bad_configs.of_parameters(), *bad_configs.of_unknown_keys(), *bad_configs.of_the_trainer()]
LONGEST = 2000


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty working directory with an empty cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPD_LIGHTNING_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def complaint(folder, capsys) -> Callable[..., str]:
    """Run ``fit`` with a config. Returns what is wrong about how it ended; an empty text if nothing is."""

    def check(config: Path | str, words: tuple[str, ...] = ()) -> str:
        capsys.readouterr()
        before = sorted(folder.rglob("*"))
        code: object = "it started"
        try:
            main(["fit", "--config", str(config)])
        except SystemExit as stopped:
            code = stopped.code
        except Exception as error:
            code = repr(error)[:500]
        said = capsys.readouterr().err
        if code != 2:
            return f"ended with {code}: {said[-300:]}"
        if said.count("\n") != 1 or not said.startswith("error: ") or not said[:-1].isprintable():
            return f"is not one printable line: {said[:600]!r}"
        if len(said) > LONGEST:
            return f"is {len(said)} characters long: {said[:300]}"
        if words and not any(re.search(rf"(?<!\w){re.escape(word)}", said) for word in words):
            return f"names none of {words}: {said[:600]}"
        if sorted(folder.rglob("*")) != before:
            return f"left something behind: {sorted(set(folder.rglob('*')) - set(before))[:3]}"
        return ""

    return check


def _complaints(cases, folder, complaint) -> list[str]:
    found = []
    for case in cases:
        (folder / "bad.yaml").write_text(case.text, encoding="utf-8")
        said = complaint("bad.yaml", case.words)
        found += [f"{case.name} {said}"] if said else []
    return found


def test_a_spread_of_wrong_parameters(folder, complaint):
    assert not _complaints(bad_configs.spread(PARAMETERS, 40), folder, complaint)


@pytest.mark.reliability
@pytest.mark.parametrize("part", range(8))
def test_a_third_of_all_wrong_parameters(part, folder, complaint):
    chosen = bad_configs.spread(PARAMETERS, len(PARAMETERS) // 3)
    assert len(chosen) >= 300
    assert not _complaints(chosen[part::8], folder, complaint)


FILES = {
    "a list": b"- 1\n- 2\n",
    "a number": b"5\n",
    "a text": b"just words\n",
    "a tab": b"model:\n\ttarget: null\n",
    "an unclosed bracket": b"trainer: [",
    "an unknown anchor": b"model: *nowhere\n",
    "anchors that explode": b"a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    + b"".join(b"a%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 12)),
    "an anchor in itself": b"trainer: &t\n  callbacks: [*t]\n",
    "merged anchors that explode": b"a0: &a0 {k: 1}\n"
    + b"".join(b"a%d: &a%d {<<: [%s]}\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 12)),
    "nothing": b"",
    "comments alone": b"# nothing\n",
    "null": b"null\n",
    "binary": bytes(range(256)) * 8,
    "zeros": bytes(4096),
    "utf-16": "trainer: {max_steps: 1}\n".encode("utf-16"),
    "latin-1": "model: {target: \xe9}\n".encode("latin-1"),
    "nesting without measure": b"model: " + b"[" * 20_000,
    "maps without measure": b"model: " + b"{a: " * 20_000,
    "code": b'model: !!python/object/apply:os.system ["touch executed"]\n',
    "an unknown tag": b"model: !nonsense {a: 1}\n",
    "two documents": b"model: {}\n---\nmodel: {}\n",
    "a list for a key": b"? [a, b]\n: 1\n",
    "a number for a key": b"5: 1\n",
    "null for a key": b"null: 1\n",
    "a merge of nothing": b"model: {<<: 5}\n",
    "a section that is a list": b"trainer: [1]\nmodel: []\ndata: {}\n",
    "sections that are empty": b"trainer:\nmodel:\ndata:\n",
    "the same section twice": b"data: {}\nmodel: {}\ndata: {}\n",
    "nine megabytes": b"# " + b"x" * 9_000_000 + b"\nmodel: {}\n",
}


def _broken_files(folder, complaint, names) -> list[str]:
    found = []
    for name in names:
        (folder / "bad.yaml").write_bytes(FILES[name])
        said = complaint("bad.yaml")
        found += [f"{name}: {said}"] if said else []
    return found


def test_files_that_are_no_config(folder, complaint):
    assert not _broken_files(folder, complaint, FILES)
    assert not (folder / "executed").exists()


def test_paths_that_are_no_file(folder, complaint):
    (folder / "a folder").mkdir()
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe")

    for path in ("a folder", "loop", "pipe", "missing.yaml", "", "a\0b", "x" * 6000, "/proc/self/mem", "☃\n☃"):
        assert not complaint(path), path[:20]


@pytest.mark.reliability
@pytest.mark.parametrize("name", ["binary", "anchors that explode", "a tab"])
def test_a_process_of_its_own_says_the_same(name, folder):
    (folder / "bad.yaml").write_bytes(FILES[name])
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root}

    ended = subprocess.run(
        [sys.executable, "-m", "spd_lightning", "fit", "--config", "bad.yaml"],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        check=False,
    )

    assert ended.returncode == 2
    assert ended.stderr.startswith("error: ")
    assert "bad.yaml" in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert not (folder / "runs").exists()


def test_cases_cover_every_public_class_and_each_is_its_own():
    names = [case.name for case in PARAMETERS]
    assert len({case.text for case in PARAMETERS}) > 0.98 * len(PARAMETERS)
    for cls in ("SparseFeatures", "Speed", "GateMLP", "LoadedWeights", "AblationCheck", "StochasticDecomposition"):
        assert any(name.startswith(f"{cls}.") for name in names)
    assert isinstance(PARAMETERS[0], Case)
