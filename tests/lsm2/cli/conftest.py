"""A tiny cohort, a run trained on it, and commands that must fail by the user's fault."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lsm2.cli import main

CLONE = Path(__file__).parents[3]
TINY = [
    "--encoder-width", "32", "--encoder-depth", "1", "--encoder-heads", "2", "--decoder-width", "32",
    "--decoder-depth", "1", "--decoder-heads", "2", "--max-visible", "64", "--max-queries", "32",
    "--batch-days", "4", "--num-workers", "0", "--checkpoint-every", "2", "--precision", "fp32",
]  # fmt: skip


@pytest.fixture(scope="session")
def tiny() -> list[str]:
    """Flags of a model and a training that take a second."""
    return list(TINY)


@pytest.fixture(scope="session")
def lsm2() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `python -m lsm2` in a process of its own, or `python ARGUMENTS` if they begin with -c."""

    def run(*arguments: object, **options) -> subprocess.CompletedProcess[str]:
        words = [str(argument) for argument in arguments]
        if words[:1] != ["-c"]:
            words = ["-m", "lsm2", *words]
        return subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=CLONE, **options)

    return run


@pytest.fixture
def blame(capsys) -> Callable[..., str]:
    """Runs a command that must fail by the user's fault; returns the one line it prints."""

    def run(*arguments: object) -> str:
        capsys.readouterr()
        assert main([str(argument) for argument in arguments]) == 2
        error = capsys.readouterr().err
        lines = [line for line in error.splitlines() if line.startswith("lsm2: error: ")]
        assert len(lines) == 1 and error.strip().endswith(lines[0])
        assert "Traceback" not in error
        return lines[0]

    return run


@pytest.fixture(scope="session")
def cohort(tmp_path_factory) -> Path:
    store = tmp_path_factory.mktemp("cli") / "store"
    assert main(["simulate", str(store), "--people", "6", "--days-per-person", "2", "--seed", "3"]) == 0
    return store


@pytest.fixture(scope="session")
def trained(cohort) -> Path:
    run = cohort.parent / "run"
    data = ["--data", str(cohort), "--out", str(run)]
    assert main(["pretrain", "tiny", *data, "--steps", "4", "--heldout-fraction", "0.5", *TINY]) == 0
    return run
