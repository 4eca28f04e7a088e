"""What can be told of a goal by its words alone."""

import re

ASKED = re.compile(
    r"(?:please )?(?:(?:tell|show|teach) (?:me|us) |explain |describe )?"
    r"how (?:to|(?:do|does|can|could|would|should|might) (?:i|you|we|one|someone|somebody|people)) ",
    re.IGNORECASE,
)
"""How most goals that ask for a way of doing something begin."""
WORD = re.compile(r"[A-Za-z]+")


def action(goal: str) -> str | None:
    """What is to be done, as it follows "people": "How do I bake bread?" -> "bake bread"; None for any other question."""
    found = ASKED.match(goal)
    if not found and goal.rstrip().endswith("?"):
        return None
    done = goal[found.end() :] if found else goal[:1].lower() + goal[1:]
    return done.strip().rstrip("?.!")


def key_word(goal: str) -> str:
    """The longest word in plain letters, the last of several, for it is mostly the thing itself; "" where there is none."""
    return max(reversed(WORD.findall(goal)), key=len, default="")
