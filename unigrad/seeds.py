"""Seeds made of seeds."""

from __future__ import annotations

import hashlib


def mixed_seed(seed: int, step: int) -> int:
    """A 63-bit seed for each (seed, step): a question met again in a later epoch gets new random numbers."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{step}".encode(), digest_size=8).digest(), "big") >> 1


def held_out_seed(seed: int) -> int:
    """Of a run's held-out evaluations: the same at each of them, and no step's, which count from 1."""
    return mixed_seed(seed, 0)
