"""People who are held out: chosen by a hash of who they are, so the split needs no file and does not depend on the order of the data."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from lsm2.errors import InputError


def heldout_subjects(subjects: Iterable[str], fraction: float, seed: int) -> frozenset[str]:
    """round(fraction * people) of the people, those with the smallest hash of (seed, person); of two or more at least one on either side.

    A fraction of 0, or a single person, holds nobody out; a fraction outside [0, 1) raises InputError.
    """
    if not 0 <= fraction < 1:
        raise InputError(f"heldout_fraction is {fraction}; it must be at least 0 and below 1")
    people = sorted(
        set(subjects), key=lambda person: hashlib.blake2b(f"{seed}\x1f{person}".encode()).digest()
    )
    if fraction == 0 or len(people) < 2:
        return frozenset()
    return frozenset(people[: min(max(round(fraction * len(people)), 1), len(people) - 1)])
