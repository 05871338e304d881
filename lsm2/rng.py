"""Random streams that are pure functions of a few names, so nothing about randomness ever has to be stored,
sent or restored.
"""

from __future__ import annotations

import hashlib

import numpy as np


def keyed_rng(*parts: str | int) -> np.random.Generator:
    """A generator (Philox) keyed by a hash of the parts: the same parts give the same numbers in every
    process and on every machine.
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    key = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "little")
    return np.random.Generator(np.random.Philox(key=key))


def random_choice(candidates: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` of the candidates (n,), each subset equally likely, in random order; always draws n numbers
    from `rng`.
    """
    # Ranking uniform numbers depends on no more of numpy than `random`; the algorithms of `choice` and
    # `permutation` may change.
    return candidates[np.argsort(rng.random(len(candidates)), kind="stable")[:count]]
