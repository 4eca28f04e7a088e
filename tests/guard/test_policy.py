"""Policies: what requests may change of them."""

from __future__ import annotations

import pytest

from guard.policy import Action, Leeway, Mode, Policy, PolicyError

ENFORCED = Policy(Mode.ENFORCE, threshold=0.5)


@pytest.mark.parametrize(
    ("policy", "asked", "result"),
    [
        (Policy(), (Mode.ENFORCE, Action.REGENERATE, 0.2), Policy(Mode.ENFORCE, Action.REGENERATE, 0.2)),
        (ENFORCED, (None, None, 0.3), Policy(Mode.ENFORCE, threshold=0.3)),
        (ENFORCED, (Mode.ENFORCE, Action.HALT, 0.5), ENFORCED),
        (Policy(Mode.ENFORCE, leeway=Leeway.ANYTHING), (Mode.OBSERVE, None, None), Policy(leeway=Leeway.ANYTHING)),
        (ENFORCED, (Mode.OBSERVE, None, None), None),
        (ENFORCED, (None, Action.REGENERATE, None), None),
        (ENFORCED, (None, None, 0.6), None),
        (Policy(Mode.ENFORCE), (None, None, 0.99), None),
        (Policy(leeway=Leeway.NOTHING), (Mode.ENFORCE, None, None), None),
    ],
)
def test_requests_change_their_policy_as_far_as_the_operator_allows(policy, asked, result):
    if result is not None:
        assert policy.asked(*asked) == result
        return
    with pytest.raises(PolicyError, match="leave (it|them) out"):
        policy.asked(*asked)
