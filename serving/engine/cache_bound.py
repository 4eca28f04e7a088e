"""How much of a prompt may come from the prefix cache, so that what is to be read of it is computed.

vLLM takes as much of a prompt from its cache as there is, but for the last token. The harm sense is read some tokens before
it, and another prompt that begins the same may have brought these blocks there without being read at that place. So a
request says what may be taken. That costs it a block at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from guard.sense import Sense

TAKEN = "sirl_taken_from_cache"
"""Key in a request's `extra_args`: tokens of its prompt that may come from the cache at most; None: all."""


def bound(params: Any, sense: Sense | None, prompt: Sequence[int]) -> None:
    """Note in a request's sampling parameters how much of its prompt may be taken, where a sense reads it."""
    back = [far for far in (sense.back(prompt) if sense else ()) if far]
    params.extra_args = {**(params.extra_args or {}), TAKEN: len(prompt) - 1 - max(back) if back else None}


class CacheBound:
    """Holds a KV cache manager of vLLM to what requests say."""

    def __init__(self, manager: Any) -> None:
        self.most: int | None = None
        """What the request that is being looked up may take."""
        self.look_up, self.find = manager.get_computed_blocks, manager.coordinator.find_longest_cache_hit
        manager.get_computed_blocks, manager.coordinator.find_longest_cache_hit = self.looked_up, self.found

    def looked_up(self, request: Any) -> Any:
        """The cached blocks of a request. One that goes on after it was preempted is not read again."""
        params = request.sampling_params
        extra = (params.extra_args or {}) if params is not None and not request.num_output_tokens else {}
        self.most = extra.get(TAKEN)
        try:
            return self.look_up(request)
        finally:
            self.most = None

    def found(self, hashes: Any, length: int) -> Any:
        """The longest run of cached blocks, of no more tokens than the request may take."""
        return self.find(hashes, length if self.most is None else min(length, self.most))
