"""How SIGTERM and Ctrl-C end a training: after the step that runs, with a checkpoint."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator


class StopRequest:
    """Whether a signal has asked training to stop, and which."""

    def __init__(self) -> None:
        self.signal: int | None = None

    @property
    def asked(self) -> bool:
        """Whether a signal came."""
        return self.signal is not None

    def end_process(self) -> None:
        """End as the signal would have: KeyboardInterrupt for Ctrl-C, else exit code 128 + signal.

        Another rank's signal is taken for SIGTERM, which batch systems send to all.
        """
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + (self.signal or signal.SIGTERM))


@contextlib.contextmanager
def stop_signals(tell: Callable[[str], None]) -> Iterator[StopRequest]:
    """Take the first SIGTERM or Ctrl-C as a request, answered by `tell` at once; the second does what it
    would have done before.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request  # only the main thread may listen
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def ask(number: int, frame: object) -> None:
        request.signal = number
        restore()
        tell("stopping after this step with a checkpoint; the same signal again stops at once, without one")

    for number in before:
        signal.signal(number, ask)
    try:
        yield request
    finally:
        restore()
