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
STARTS = (
    "What", "How", "Why", "Write", "Explain", "Give", "List", "Can you", "I", "Describe", "Tell me", "Is", "Who",
    "Summarize", "Create", "Which", "Help me", "Suggest", "Compare", "Please", "When", "Where", "Find", "Design", "Do",
    "Name",
)  # fmt: skip
"""Words that turns begin with, in turn: they are anybody's, and without them a model made for code writes code alone."""
PROBES = ("A", "zebra")
"""Words of a user that share no beginning: what their renderings share is the template's."""
USUAL_YIELD = 0.25
"""Turns that are drawn for one that is wanted, at most: a fourth of them is enough, or the model has no such turns."""


def own_prompts(llm: LocalModel, count: int, *, seed: int) -> list[Tokens]:
    """Up to `count` distinct prompts as the chat template renders them, sorted; fewer, or none, from a model that does not
    go on with turns of users. They are drawn at temperature 1 from the model as it is, and fixed by `seed`."""
    before = beginning(llm)
    if not before or not count:
        return []
    starts = [tuple(llm.tokenizer.encode(words, add_special_tokens=False)) for words in STARTS]
    found: dict[Tokens, None] = {}
    for at in range(0, round(count / USUAL_YIELD), AT_ONCE):
        begun = [starts[number % len(starts)] for number in range(at, at + AT_ONCE)]
        asked = [(*before, *words) for words in begun]
        drawn = generate(llm, asked, max_tokens=TOKENS, seed=seed, numbers=range(at, at + AT_ONCE))
        turns = (rendered(llm, (*begun[sample.prompt], *sample.tokens)) for sample in drawn)
        found |= dict.fromkeys(turn for turn in turns if turn)
        if len(found) >= count:
            break
    return sorted([*found][:count])


def beginning(llm: LocalModel) -> Tokens:
    """What the chat template puts before the words of a user who says nothing else; empty without a template."""
    try:
        one, other = (llm.render([{"role": "user", "content": text}]) for text in PROBES)
    except TemplateError:
        return ()
    same = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), 0)
    return one[:same]


def rendered(llm: LocalModel, turn: Sequence[int]) -> Tokens | None:
    """The prompt that a made-up turn is; None for one that is not over, or says nothing."""
    if not turn or turn[-1] not in llm.ends.tolist():
        return None
    text = llm.text(turn[:-1]).strip()
    return llm.render([{"role": "user", "content": text}]) if text else None
