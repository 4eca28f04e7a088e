"""Prompts that the model makes up itself: what it knows its users to ask.

An aligned model was trained on very many users' turns, so it goes on with one when it is given its chat template up to where
a user's words begin (Magpie, arXiv 2406.08464). Clients of one endpoint ask a few kinds of things. What learning must leave
alone is wider than that, and here it is at hand without data, without labels, and without any client having a say in it.
"""

from __future__ import annotations

from collections.abc import Sequence

from guard.openings import Tokens
from online.model.conditions import TemplateError
from online.model.decoding import generate
from online.model.local_model import LocalModel

TOKENS = 48
"""Tokens of a made-up turn at most; one that is not over by then is left out."""
AT_ONCE = 32
"""Turns that are drawn beside each other."""
PROBES = ("A", "zebra")
"""Words of a user that share no beginning: what their renderings share is the template's."""
USUAL_YIELD = 0.25
"""Turns that are drawn for one that is wanted, at most: a fourth of them is enough, or the model has no such turns."""


def own_prompts(policy: LocalModel, count: int, *, seed: int) -> list[Tokens]:
    """Up to `count` distinct prompts as the chat template renders them, sorted; fewer, or none, from a model that does not
    go on with turns of users. They are drawn at temperature 1 from the policy as it is, and fixed by `seed`."""
    start = beginning(policy)
    if not start or not count:
        return []
    found: set[Tokens] = set()
    for at in range(0, round(count / USUAL_YIELD), AT_ONCE):
        drawn = generate(policy, [start] * AT_ONCE, max_tokens=TOKENS, seed=seed, numbers=range(at, at + AT_ONCE))
        for sample in drawn:
            if prompt := rendered(policy, sample.tokens):
                found.add(prompt)
        if len(found) >= count:
            break
    return sorted(found)[:count]


def beginning(policy: LocalModel) -> Tokens:
    """What the chat template puts before the words of a user who says nothing else; empty without a template."""
    try:
        one, other = (policy.render([{"role": "user", "content": text}]) for text in PROBES)
    except TemplateError:
        return ()
    same = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), 0)
    return one[:same]


def rendered(policy: LocalModel, turn: Sequence[int]) -> Tokens | None:
    """The prompt that a made-up turn is; None for one that is not over, or says nothing."""
    if not turn or turn[-1] not in policy.ends.tolist():
        return None
    text = policy.text(turn[:-1]).strip()
    return policy.render([{"role": "user", "content": text}]) if text else None
