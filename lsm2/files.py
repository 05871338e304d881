"""Files that a crash leaves old or new, never in part; JSON; hashes that tell whether a file has changed
since.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lsm2.errors import InputError

LONGEST_NAME = 100
"""Bytes of a name in a file name; most file systems allow 255 for all of it."""


def file_name(name: str, *, distinct: bool = False) -> str:
    """A name from data as part of a file name; one that is too long ends in its hash instead.

    distinct: so does one with characters that were replaced, so that no two names give one file.
    """
    plain = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in name)
    if len(plain.encode()) <= LONGEST_NAME and (plain == name or not distinct):
        return plain
    return (
        f"{plain[: LONGEST_NAME // 4]}-{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:12]}"
    )


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `path`, and put it in its place when it is on disk."""
    part = path.with_name(f".{path.name}.part")
    write(part)
    fsync(part)
    os.replace(part, path)


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, whole or not at all."""
    text = json.dumps(value, indent=1, allow_nan=False) + "\n"
    write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """The object in a JSON file; raises InputError with `remedy` where the file is missing, unreadable or no
    object.
    """
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path} is missing; {remedy}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({error}); {remedy}") from None
    if not isinstance(value, dict):
        raise InputError(f"{path} holds no JSON object; {remedy}")
    return value


def fsync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_sha256(path: Path) -> str:
    """The hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
