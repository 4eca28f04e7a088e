"""Reasoning models at calibration: their marks are found in the tokenizer; a reasoning is drawn before each answer.

Openings, masses and thresholds are of answers, so they are measured where answers begin: behind the prompt and one reasoning
of the model's own.
"""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from guard.openings import Tokens
from guard.reasoning import Reasoning
from online.model.decoding import generate
from online.model.local_model import LocalModel

MARKS = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
)
"""Opening and closing marks of reasoning, each one token, as model families spell them."""


def marks(tokenizer: PreTrainedTokenizerBase) -> Reasoning | None:
    """The first pair of marks that the tokenizer knows as single tokens, with all its blank tokens; None for no pair."""
    vocabulary = tokenizer.get_vocab()
    for start, end in MARKS:
        if start in vocabulary and end in vocabulary:
            blank = (token for token in vocabulary.values() if not str(tokenizer.decode([token])).strip())
            return Reasoning(vocabulary[start], vocabulary[end], frozenset(blank))
    return None


def behind_reasoning(
    llm: LocalModel, prompts: Sequence[Tokens], known: Reasoning, *, max_tokens: int, seed: int
) -> tuple[list[Tokens], bool]:
    """Each prompt with what the model says before its answer begins, and whether it reasoned anywhere.

    A reasoning longer than `max_tokens` is closed there, as a thinking budget would.
    """
    drawn = generate(llm, prompts, max_tokens=max_tokens, seed=seed)
    found, ends = [], set(llm.ends.tolist())
    for prompt, sample in zip(prompts, drawn, strict=True):
        before, still_open = known.before_answer(prompt, sample.tokens)
        told = tuple(token for token in before if token not in ends)
        found.append((*prompt, *told, *([known.end] if still_open else ())))
    used = any(known.start in prompt or known.start in s.tokens for prompt, s in zip(prompts, drawn, strict=True))
    return found, used
