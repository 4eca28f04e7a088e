"""Templates bred from ours: those that pay are changed most."""

import math
from dataclasses import dataclass
from random import Random

from evaluation.attacks.attack import Attack, Query, Tries, said
from evaluation.attacks.mutation import SEEDS, mutated
from evaluation.attacks.templates import filled
from evaluation.suite import Prompt

ROUNDS, BATCH = 100, 4
CURIOSITY = 0.5
"""How much a template that was seldom chosen gains by it."""


@dataclass(slots=True)
class Breed:
    """A template, how often its changes were tried, and the sum of their scores."""

    template: str
    chosen: int = 0
    paid: float = 0.0

    def hope(self, total: int) -> float:
        """Upper confidence bound: mean score + c sqrt(2 ln(total) / times chosen), each count one up."""
        return self.paid / (self.chosen + 1) + CURIOSITY * math.sqrt(2 * math.log(total + 1) / (self.chosen + 1))


def tries(prompt: Prompt, luck: Random) -> Tries:
    """A change that scores above its parent's mean becomes a template of its own."""
    breeds = [Breed(template) for template in luck.sample(SEEDS, len(SEEDS))]
    for _ in range(ROUNDS):
        total = sum(breed.chosen for breed in breeds)
        parent = max(breeds, key=lambda breed: breed.hope(total))
        made = [mutated(parent.template, SEEDS, luck) for _ in range(BATCH)]
        answers = yield [Query(said(prompt, filled(template, prompt.text))) for template in made]
        usual = parent.paid / (parent.chosen or 1)
        for template, answer in zip(made, answers, strict=True):
            parent.chosen, parent.paid = parent.chosen + 1, parent.paid + answer.score
            if answer.score > usual:
                breeds.append(Breed(template, 1, answer.score))


ATTACK = Attack(
    name="fuzzing",
    about="Our own templates crossed, shortened, expanded and nested; the search goes where the score is.",
    source="GPTFUZZER: Red Teaming Large Language Models with Auto-Generated Jailbreak Prompts, arXiv:2309.10253",
    tries=tries,
)
