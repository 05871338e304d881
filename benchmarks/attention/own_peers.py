"""Peers from a file of your own, for `--peer FILE.py` of the attention races; see benchmarks/README.md."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.attention.problem import Way


def load_peers(path: Path) -> dict[str, Callable[[Any], Way]]:
    """The functions that the file defines, by name; those whose name begins with an underscore are its own affair.

    Runs the file. Raises SystemExit where there is no such file or it defines no function.
    """
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise SystemExit(f"--peer: {path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    functions = inspect.getmembers(module, inspect.isfunction)
    peers = {name: function for name, function in functions if function.__module__ == path.stem and not name.startswith("_")}
    if not peers:
        raise SystemExit(f"--peer: {path} defines no function; a peer is a function that takes a Problem and gives a Way")
    return peers
