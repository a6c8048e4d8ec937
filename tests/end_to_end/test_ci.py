"""What runs before a change lands: with a browser, which is installed where there is none."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci/run"
TOOLS = ("bash", "dirname", "env")


@pytest.fixture
def ran(tmp_path):
    """Runs the script with nothing but stand-ins, which note how they were called; gives the status and the notes."""

    def run(*there, user=0, apt_fails=False):
        log = tmp_path / "log"
        stubs = {"make": 'echo "make $* CI=$CI"', "apt-get": f'echo "apt-get $*"; exit {int(apt_fails)}'}
        stubs |= {"sudo": 'echo -n "sudo $1 "; shift; "$@"', "id": f"echo {user}"} | dict.fromkeys(there, ":")
        for name, line in stubs.items():
            redirected = line if name == "id" else f"{{ {line}; }} >> {log}"
            (tmp_path / name).write_text(f"#!{shutil.which('bash')}\n{redirected}\n")
            (tmp_path / name).chmod(0o755)
        for name in TOOLS:
            (tmp_path / name).symlink_to(shutil.which(name))
        done = subprocess.run([SCRIPT], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False)
        return done.returncode, log.read_text().splitlines()

    return run


INSTALL = "apt-get install -q -y --no-install-recommends chromium"


def test_a_browser_that_is_there_is_taken(ran):
    assert ran("chromium") == (0, ["make test CI=1"])
    assert os.access(SCRIPT, os.X_OK)


def test_a_missing_browser_is_installed_first(ran):
    assert ran() == (0, ["apt-get update -q", INSTALL, "make test CI=1"])


def test_who_is_not_root_asks_sudo_without_a_password(ran):
    assert ran(user=1000) == (0, ["sudo -n apt-get update -q", f"sudo -n {INSTALL}", "make test CI=1"])


def test_nothing_is_tested_without_a_browser(ran):
    assert ran(apt_fails=True) == (1, ["apt-get update -q"])
