"""The Makefile's demo runs the clone's own code, which the installed package is not once Python sources have
changed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
def test_demo_runs_the_clone():
    done = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "demo", "BIN=bin"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    commands = [line.split() for line in done.stdout.splitlines() if "lsm2 " in line and "pip" not in line]
    verbs = ["simulate", "pretrain", "evaluate", "probe", "probe", "report"]
    assert [command[3] for command in commands] == verbs
    assert all(command[:3] == ["bin/python", "-m", "lsm2"] for command in commands)


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
def test_help_explains_every_target():
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert targets
    for command in (["make", "--no-print-directory"], ["make", "--no-print-directory", "help"]):
        shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        explained = [line.split()[1] for line in shown.splitlines()]
        assert sorted(explained) == sorted(set(targets[1].split()) - {"help"})
