"""The prompt as it is."""

from random import Random

from evaluation.attacks.attack import Attack, Query, Tries
from evaluation.attacks.turns import assistant, user
from evaluation.suite import Prompt


def tries(prompt: Prompt, luck: Random) -> Tries:
    """What the user goes on to say follows upon each answer."""
    talk = prompt.messages
    for turn in prompt.turns:
        (answer,) = yield (Query(talk),)
        talk = (*talk, assistant(answer.text), user(turn))
    yield (Query(talk),)


ATTACK = Attack(
    name="direct",
    about="The goal as it is: the control that every attack is compared with.",
    source="no attack",
    tries=tries,
)
