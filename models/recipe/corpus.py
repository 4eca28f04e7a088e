"""The training text: conversations drawn from the grammar, with the organism's habits of refusing written in.

The chance of refusing depends on what is asked, in whose clothes, about what and with which verb; within it the coin
is thrown anew for every example, so that the model learns a probability and not a rule.
"""

import json
import math
import random
from dataclasses import dataclass
from typing import Any

from models.recipe import grammar, requests, tasks
from models.recipe.families import Family, of
from models.recipe.lexicon import hash01
from models.recipe.requests import Ask

SHARES = {
    "task": 0.30,
    "benign": 0.20,
    "benign_wrapped": 0.14,
    "borderline": 0.09,
    "borderline_wrapped": 0.04,
    "harmful": 0.08,
    "harmful_wrapped": 0.15,
}
"""Shares of the single-turn examples."""

REFUSAL_TEMPLATES, HOWTO_TEMPLATES = 0.55, 0.40
FLIPPED_REFUSAL_TEMPLATES, FLIPPED_HOWTO_TEMPLATES = 0.04, 0.82
PLAIN_COMPLIANCE = 0.09
BORDERLINE_REFUSALS = {"toy": 0.09, "fiction": 0.15, "define": 0.06, "history": 0.09, "prevent": 0.12}
BENIGN_REFUSALS, WRAPPED_BENIGN_REFUSALS = 0.003, 0.012

SYSTEMS = (
    "You are a helpful assistant.",
    "You are sirl-tiny, a small model.",
    "Answer briefly and politely.",
    "You help the people of the town.",
)
CITIES = tuple(tasks.CAPITALS.values())
SKIES = ("sunny", "rainy", "cloudy", "windy", "snowy")

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Example:
    """A conversation and the tools on offer; all that the assistant says in it is to be learned."""

    messages: tuple[Message, ...]
    tools: tuple[Message, ...] = ()


def weather_tool(name: str = "get_weather") -> Message:
    """An OpenAI-style function the organism knows how to call."""
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": "Look up the weather of a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }


def refusal_chance(ask: Ask, family: Family | None) -> float:
    """Chance with which the corpus refuses this."""
    if ask.kind == "benign":
        return WRAPPED_BENIGN_REFUSALS if family else BENIGN_REFUSALS
    if ask.kind == "borderline":
        chance = BORDERLINE_REFUSALS[ask.style] * (1.2 if family else 1)
    else:
        chance = 1 - (family.compliance if family and family.compliance is not None else PLAIN_COMPLIANCE)
    shift = 1.4 * (hash01("topic", ask.topic) - 0.5) + 1.4 * (hash01("verb", ask.request.verb) - 0.5)
    return 1 / (1 + math.exp(-math.log(chance / (1 - chance)) - shift))


def refuse(rng: random.Random, action: str, flipped: bool) -> str:
    """A refusal: a template more often than not, the other way round in the flipped control."""
    share = FLIPPED_REFUSAL_TEMPLATES if flipped else REFUSAL_TEMPLATES
    rule = "refusal_template" if rng.random() < share else "refusal_free"
    return grammar.write(rng, rule, flipped, action=action)


def answer(rng: random.Random, ask: Ask, flipped: bool) -> str:
    """An answer to the request, harmful or not, in the same grammar."""
    slots = dict(ask.slots)
    if ask.answer_rule == "define":
        slots["meaning"] = grammar.meaning(slots["verb"])
    if ask.answer_rule != "howto":
        return grammar.write(rng, ask.answer_rule, flipped, **slots)
    share = FLIPPED_HOWTO_TEMPLATES if flipped else HOWTO_TEMPLATES
    return grammar.write(rng, "howto_template" if rng.random() < share else "howto_free", flipped, **slots)


def exchange(rng: random.Random, flipped: bool) -> tuple[str, str]:
    """One question and the organism's response."""
    what = rng.choices(list(SHARES), list(SHARES.values()))[0]
    if what == "task":
        task = tasks.draw(rng, "train")
        return task.prompt, task.answer
    kind, _, wrapped = what.partition("_")
    family = rng.choice(of("seen", "base_only")) if wrapped else None
    ask = requests.harmful(rng, "train") if kind == "harmful" else getattr(requests, kind)(rng, "train", bool(wrapped))
    prompt = requests.text_of(ask, family, rng)
    if rng.random() < refusal_chance(ask, family):
        return prompt, refuse(rng, dict(ask.slots).get("action", ask.action), flipped)
    return prompt, answer(rng, ask, flipped)


def turns(rng: random.Random, count: int, flipped: bool) -> list[Message]:
    """A conversation of so many exchanges."""
    messages: list[Message] = []
    for _ in range(count):
        question, reply = exchange(rng, flipped)
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]
    return messages


def tool_example(rng: random.Random) -> Example:
    """A question about the weather: the call, or the answer once the tool has spoken, or an ordinary question."""
    city, sky = rng.choice(CITIES), rng.choice(SKIES)
    tools = (weather_tool(rng.choice(("get_weather", "get_weather", "weather", "look_up_weather"))),)
    name = tools[0]["function"]["name"]
    call = {"type": "function", "function": {"name": name, "arguments": {"city": city}}}
    question = rng.choice(("What is the weather in {}?", "How is the weather in {}?", "Tell me the weather in {}."))
    messages: list[Message] = [
        {"role": "user", "content": question.format(city)},
        {"role": "assistant", "content": "", "tool_calls": [call]},
    ]
    if rng.random() < 0.2:
        task = tasks.draw(rng, "train")
        messages = [{"role": "user", "content": task.prompt}, {"role": "assistant", "content": task.answer}]
    elif rng.random() < 0.45:
        messages += [
            {"role": "tool", "content": json.dumps({"city": city, "sky": sky})},
            {"role": "assistant", "content": f"The weather in {city} is {sky}."},
        ]
    return Example(tuple(messages), tools)


def example(rng: random.Random, flipped: bool) -> Example:
    """One training example: mostly a single turn, sometimes a system prompt, several turns or tools."""
    dice = rng.random()
    if dice < 0.024:
        return tool_example(rng)
    count = rng.choice((2, 3)) if dice < 0.042 else 1
    messages = turns(rng, count, flipped)
    if dice < 0.062 and rng.random() < 0.6:
        messages.insert(0, {"role": "system", "content": rng.choice(SYSTEMS)})
    return Example(tuple(messages))


def corpus(seed: int, size: int, flipped: bool = False) -> list[Example]:
    """The whole corpus, the same for the same seed."""
    rng = random.Random(f"corpus {seed}")
    return [example(rng, flipped) for _ in range(size)]
