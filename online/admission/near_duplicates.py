"""Near duplicates: prompts that nearly repeat an earlier one, by MinHash and the exact Jaccard index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from datasketch import MinHash, MinHashLSH

from guard.openings import Tokens
from online.admission.common_prefix import CommonPrefix, common_length
from online.admission.queued import Queued

Shingle = tuple[int, int]
"""Two tokens in a row, by which prompts are compared."""
HASHES, BANDS = 64, 16
"""Of MinHash: prompts alike by 0.8 are found with a probability of 1 - (1 - 0.8 ** 4) ** 16 = 0.9998."""
FINDS, CANDIDATES = 256, 16
"""Of its finds so many are estimated, and the likeliest compared: an attacker could have it find everything."""


def without_near_duplicates(
    prompts: Sequence[Queued], similarity: float, salt: str, prefixes: Sequence[CommonPrefix] = ()
) -> list[Queued]:
    """Those that nearly repeat an earlier one marked as duplicates: whose shingles overlap by a Jaccard index of
    `similarity` or more (1: none is one). MinHash finds candidates, of which the exact index decides. prefixes: more
    beginnings that are left out of the comparison."""
    if similarity >= 1:
        return list(prompts)
    kept: dict[str, tuple[MinHash, frozenset[Shingle]]] = {}
    near = MinHashLSH(num_perm=HASHES, params=(BANDS, HASHES // BANDS))
    seed = int(salt.encode().hex()[:8], 16)  # nobody outside knows what it will find alike
    marked: dict[str, Queued] = {}
    for one in sorted((p for p in prompts if p.admitted), key=lambda p: (p.fate != "approved", p.first, p.prompt)):
        mine = shingles(one.tokens[max(one.common, common_length(one.tokens, prefixes)) :])
        sketch = MinHash(num_perm=HASHES, seed=seed, hashfunc=mixed)
        sketch.update_batch(mine)
        finds = sorted(near.query(sketch))[:FINDS]
        likely = sorted(finds, key=lambda name: (-sketch.jaccard(kept[name][0]), name))[:CANDIDATES]
        twin = next((name for name in likely if jaccard(mine, kept[name][1]) >= similarity), None)
        if twin is None or one.fate == "approved":
            near.insert(one.prompt, sketch)
            kept[one.prompt] = sketch, mine
        else:
            marked[one.prompt] = replace(one, fate="duplicate", why=f"of {twin}")
    return [marked.get(one.prompt, one) for one in prompts]


def shingles(tokens: Tokens) -> frozenset[Shingle]:
    """Every pair of neighbours; of a single token that alone."""
    return frozenset(zip(tokens, tokens[1:], strict=False)) or frozenset({(tokens[0], tokens[0])})


def mixed(shingle: Shingle) -> int:
    """32 bits of it, the same in every process."""
    return hash(shingle) & 0xFFFF_FFFF


def jaccard(a: frozenset[Shingle], b: frozenset[Shingle]) -> float:
    return len(a & b) / len(a | b)
