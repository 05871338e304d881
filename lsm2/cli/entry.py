"""From one command line to an exit code: 0 done, 2 the input is at fault, 130 interrupted by Ctrl-C."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence

from lsm2.cli.command import Command, parse
from lsm2.cli.messages import describe_failure, in_flags
from lsm2.cli.verbs import VERBS
from lsm2.errors import InputError
from lsm2.progress import discard, say

DONE = 0
INPUT_AT_FAULT = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; the one line that says what is at fault goes to stderr.

    A training that a signal ends raises SystemExit(128 + signal) itself.
    """
    # Threads that wait spinning slow every small operation down as soon as a core is shared. PyTorch reads
    # this when it loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            return _run(list(sys.argv[1:] if arguments is None else arguments))
        finally:
            _flush()


def _run(words: list[str]) -> int:
    command: Command | None = None
    try:
        if words[:1] == ["--version"]:
            say(_version())
            return DONE
        try:
            command = parse(VERBS, words)
        except BrokenPipeError:  # of a page of help that nobody reads to its end
            return DONE
        command.run()
    except InputError as error:
        say(f"lsm2: error: {in_flags(str(error), command.flags if command else ())}", stderr=True)
        return INPUT_AT_FAULT
    except OSError as error:
        say(f"lsm2: error: {describe_failure(error, command.output if command else None)}", stderr=True)
        return INPUT_AT_FAULT
    except KeyboardInterrupt:
        say("lsm2: interrupted", stderr=True)
        return INTERRUPTED
    return DONE


def _version() -> str:
    """Versions and what computes attention here, in one line."""
    import importlib.metadata
    import platform

    import torch

    from lsm2.model.attention import kernels_for

    try:
        version = importlib.metadata.version("lsm2-kernels")
    except importlib.metadata.PackageNotFoundError:
        version = "from a folder that is not installed"
    kernels = kernels_for(torch.device("cpu"))
    python = platform.python_version()
    return f"lsm2 {version}, Python {python}, torch {torch.__version__}, CPU kernels {kernels}"


def _show_warning(message: Warning | str, *_: object) -> None:
    say(f"lsm2: warning: {message}", stderr=True)


def _flush() -> None:
    """Write what is still buffered; a reader that has gone (`| head`) is no error."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        discard(sys.stdout.fileno())
