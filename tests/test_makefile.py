"""The Makefile's demo runs the clone's own code, which the installed package is not once Python sources have
changed.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
def test_demo_runs_the_clone():
    done = subprocess.run(
        ["make", "--dry-run", "demo", "BIN=bin"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    commands = [line.split() for line in done.stdout.splitlines() if "lsm2 " in line and "pip" not in line]
    assert [command[3] for command in commands] == ["simulate", "pretrain", "evaluate", "report"]
    assert all(command[:3] == ["bin/python", "-m", "lsm2"] for command in commands)
