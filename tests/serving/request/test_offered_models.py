"""Versions by name: what is a way past the learned defence is the operator's to open."""

from __future__ import annotations

import json

import pytest

from guard.policy import Leeway, Policy
from serving.request.errors import RefusedRequest
from serving.request.offered_models import OfferedModels, without

OFFERS = OfferedModels(("m", "own@v1"), "v7", ("v3",))
NOBODY, STRICT = Policy(), Policy(leeway=Leeway.NOTHING)


def refusal(model: str, policy: Policy) -> int:
    with pytest.raises(RefusedRequest) as refused:
        OFFERS.asked(model, policy, internal=False)
    assert refused.value.message.endswith(".")
    return refused.value.status


def test_what_serves_is_open_and_what_passes_by_it_is_not():
    for policy in (NOBODY, STRICT):
        assert OFFERS.asked("m@v7", policy, internal=False) == "v7"
        assert OFFERS.asked("m", policy, internal=False) is None
        assert refusal("m@base", policy) == 400
        assert refusal("m@v6", policy) == 404, "one that served before does not end silently at what serves now"
    assert OFFERS.asked("m@v3", NOBODY, internal=False) == "v3", "pinned: the operator's offer"
    assert refusal("m@v3", STRICT) == 400


@pytest.mark.parametrize("policy", [Policy(trusted=True), Policy(leeway=Leeway.ANYTHING)])
def test_who_may_loosen_may_have_any(policy):
    assert [OFFERS.asked(f"m@{one}", policy, internal=False) for one in ("base", "v3", "v7")] == ["base", "v3", "v7"]
    assert OFFERS.asked("m@base", STRICT, internal=True) == "base" and not OFFERS.closed(policy, internal=False)


def test_while_the_base_serves_it_is_open():
    assert OfferedModels(("m",)).asked("m@base", STRICT, internal=False) == "base" and not OfferedModels(("m",)).closed(
        STRICT, internal=False
    )


@pytest.mark.parametrize(
    "model", [None, 7, ["m@base"], "", "m@", "m@nobody", "m@v0", "m@v07", "m@V3", "x@base", "own@v1", "@base"]
)
def test_other_names_are_vllms_to_know(model):
    assert OFFERS.asked(model, STRICT, internal=False) is None


def test_the_list_shows_what_is_open():
    models = json.dumps({"object": "list", "data": [{"id": name} for name in ("m", "own@v1", *OFFERS.listed)]}).encode()
    left = [model["id"] for model in json.loads(without(models, OFFERS.closed(NOBODY, internal=False)))["data"]]
    assert left == ["m", "own@v1", "m@v7", "m@v3", "own@v1@v7", "own@v1@v3"]
    assert without(b'{"error": 1}', frozenset({"m"})) == b'{"error": 1}'
