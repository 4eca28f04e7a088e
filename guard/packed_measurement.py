"""The packed measurement: one token's entropy, refusal mass and rank in the 64-bit word that vLLM has for the rank.

    bit 63  | 62 ...... 32    | 31 ........ 18 | 17 ........ 0
    present | float32 entropy | refusal mass   | the rank vLLM put there

vLLM ships one `selected_token_ranks` entry with every sampled token. A rank needs 18 bits for any vocabulary in use, so
the rest of the word is free, and what rides in it cannot lose its token: it survives slicing, async copies, tensor-parallel
gathers and msgpack because it is the same number. The worker packs (in torch), the API process unpacks here.

An entropy is never negative, so the sign of its float is free: it says that the token was measured at all. A rank that no
probe touched has it not, and reads as no measurement; it would else read as an entropy of 0 and a mass of 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

RANK_BITS = 18
MASS_BITS = 14
RANK_MAX = (1 << RANK_BITS) - 1
MASS_NONE = (1 << MASS_BITS) - 1
"""The mass code that says: no openings are known, so no mass was measured."""
PRESENT = -1 << 63
"""The bit of a word that was measured: a measured word is negative, a plain rank is not."""
MASS_STEPS = MASS_NONE - 1
"""Probabilities 0..1 map onto codes 0..MASS_STEPS: a resolution of 6.1e-5."""


def pack(entropy: ArrayLike, mass: ArrayLike, rank: ArrayLike) -> NDArray[np.int64]:
    """Measured words of entropies (nats, at least 0, or NaN), masses (probabilities, NaN = not measured) and ranks
    (saturating at 2^18 - 1)."""
    bits = np.asarray(entropy, dtype=np.float32).view(np.int32).astype(np.int64)
    probability = np.asarray(mass, dtype=np.float64)
    measured = np.nan_to_num(np.clip(probability, 0.0, 1.0))
    code = np.where(np.isnan(probability), MASS_NONE, np.rint(measured * MASS_STEPS)).astype(np.int64)
    return PRESENT | (bits << 32) | (code << RANK_BITS) | np.clip(np.asarray(rank, dtype=np.int64), 0, RANK_MAX)


def unpack(word: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.int64]]:
    """(entropy in nats, mass as a probability, rank) of each word; the inverse of :func:`pack`. Entropy and mass are NaN
    where no probe measured, the mass also where no openings were known."""
    words = np.asarray(word, dtype=np.int64)
    present = words < 0
    entropy = np.where(present, (words >> 32 & 0x7FFFFFFF).astype(np.int32).view(np.float32), np.float32(np.nan))
    code = (words >> RANK_BITS) & MASS_NONE
    mass = np.where(present & (code != MASS_NONE), code / MASS_STEPS, np.nan)
    return entropy, mass, words & RANK_MAX
