"""Runs triton_suite/*_tests.py, the tests of the Triton launchers, each in its own process.

On a GPU they run natively, elsewhere in Triton's interpreter, which a process must choose before it first
imports Triton. Here some other test may have imported it (torch.compile does), and would then find every
kernel interpreted.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SUITE = Path(__file__).parent / "triton_suite"


@pytest.mark.slow
@pytest.mark.subprocess
@pytest.mark.parametrize("name", ["attention_tests.py", "packing_tests.py"])
def test_suite(name):
    pytest.importorskip("triton", reason="Triton is not installed: pip install triton")
    environment = os.environ | {"TRITON_INTERPRET": "0" if torch.cuda.is_available() else "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", SUITE / name]
    result = subprocess.run(
        command, cwd=Path(__file__).parents[2], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"\d\d passed", result.stdout), result.stdout
