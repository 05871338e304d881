"""The one exception that means "the input is at fault, not the program", and a check that raises it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class InputError(ValueError):
    """Something the user gave is wrong. The message names the thing and says what to do about it.

    The command line prints the message alone, without a traceback, and exits with code 2.
    """


class SettingCheck:
    """Raises InputError for a setting of a configuration that is not as it must be."""

    def __init__(self, config: object, prefix: str = "") -> None:
        self._config = config
        self._prefix = prefix

    def __call__(self, name: str, fine: Callable[[Any], bool], wanted: str) -> None:
        value = getattr(self._config, name)
        if not fine(value):
            raise InputError(f"{self._prefix}{name} is {value!r}; it must be {wanted}")
