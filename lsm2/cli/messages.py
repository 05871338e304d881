"""Messages for whoever typed a command: flags instead of Python names, files where the system names none."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable
from pathlib import Path


def in_flags(message: str, options: Iterable[str]) -> str:
    """The message with the Python names of options as flags: `batch_days is 0` becomes `--batch-days is 0`.

    options: names such as `train.batch_days` or `max_days`. A word that is also an English one, such as
    `steps`, is an option where it begins the message (`steps is 0`), after its group (`train.steps`) or
    before a value (`steps = 8`). Paths and quoted words stay unchanged.
    """
    groups, names = set(), set()
    for option in options:
        group, _, name = option.rpartition(".")
        groups.add(group)
        names.add(name)
    if not names:
        return message
    prefix = "|".join(sorted(filter(None, groups))) or "(?!)"
    longest_first = "|".join(sorted(names, key=len, reverse=True))

    def flag(match: re.Match[str]) -> str:
        group, name, equals = match.groups()
        begins = match.start() == 0 and message[match.end() :].startswith(" is ")
        if not (group or equals or begins or "_" in name):
            return match[0]
        return f"--{name.replace('_', '-')}{' ' if equals else ''}"

    return re.sub(
        rf"(?<![\w/.'\"-])((?:(?:{prefix})\.)+)?({longest_first})(?![\w/'\"-]|\.\w)( = )?", flag, message
    )


def describe_failure(error: OSError, output: Path | None) -> str:
    """What the system refused, and at which file; where it names none, the folder that was written to."""
    place = error.filename or output
    if error.strerror is None or place is None:
        return str(error)
    remedy = "; make room there" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    return f"{place}: {error.strerror}{remedy}"
