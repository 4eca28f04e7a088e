"""How much of a prompt may come from the prefix cache."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from vllm.sampling_params import SamplingParams

from guard.sense import Sense, TurnEnd
from serving.engine.cache_bound import TAKEN, CacheBound, bound

WEIGHTS = np.ones((2, 1, 4), np.float32)
BOTH = Sense((1,), WEIGHTS, 0.0, places=("prompt_end", "user_end"), turn_end=TurnEnd((8, 9)))


@pytest.mark.parametrize(
    ("sense", "prompt", "taken"),
    [
        (BOTH, (1, 2, 3, 8, 9), 2),  # the third token is the user's last, and is computed
        (BOTH, (1, 2, 3, 8, 9, 5), 2),
        (BOTH, (1, 2, 3), None),  # has no such place
        (Sense((1,), WEIGHTS[:1], 0.0), (1, 2, 3, 8, 9), None),
        (None, (1, 2, 3, 8, 9), None),
    ],
)
def test_a_request_says_how_much_may_be_taken_whatever_its_client_put_there(sense, prompt, taken):
    given = {TAKEN: 1000, "theirs": "x"}
    params = SamplingParams(extra_args=given)
    bound(params, sense, prompt)
    assert params.extra_args == {TAKEN: taken, "theirs": "x"} and given[TAKEN] == 1000


def test_no_more_is_looked_up_than_a_request_may_take():
    asked = []

    class Manager:
        def __init__(self) -> None:
            self.coordinator = SimpleNamespace(find_longest_cache_hit=lambda hashes, length: asked.append((hashes, length)))

        def get_computed_blocks(self, request):
            if request.broken:
                raise RuntimeError("broken")
            return self.coordinator.find_longest_cache_hit("hashes", 40), "blocks"

    def request(extra: dict | None, said: int = 0, broken: bool = False) -> SimpleNamespace:
        params = None if extra is None else SamplingParams(extra_args=extra)
        return SimpleNamespace(sampling_params=params, num_output_tokens=said, broken=broken)

    manager = Manager()
    CacheBound(manager)
    assert manager.get_computed_blocks(request({TAKEN: 33})) == (None, "blocks")
    with pytest.raises(RuntimeError):
        manager.get_computed_blocks(request({TAKEN: 5}, broken=True))
    for one in (request({TAKEN: None}), request({}), request(None), request({TAKEN: 33}, said=3), request({TAKEN: 90})):
        manager.get_computed_blocks(one)
    assert asked == [("hashes", 33)] + 5 * [("hashes", 40)]
