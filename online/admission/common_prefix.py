"""The common prefix: what an operator's system prompt puts before many prompts alike. They are told apart by the rest.

It is found in the token ids, whatever template wrote them. A date in it differs from day to day: a few tokens that differ
are bridged where a long common run goes on behind them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from guard.openings import Tokens

SHARE, LEAST = 0.25, 8
"""Of the prompts and how many of them must begin alike: operators have few system prompts, and a flood is less."""
SAMPLE = 512
"""Prompts that are looked at, evenly among all."""
GAP, RUN = 8, 16
"""Tokens in a row that may differ, such as a date's, and how many must be common right behind them."""
WORDS = 32
"""Tokens of a common prefix that are dropped though no mark of the chat template ends them: users may well begin alike with
fewer."""


@dataclass(frozen=True, slots=True)
class CommonPrefix:
    """Tokens that prompts begin with; None: any token, such as a date's."""

    tokens: tuple[int | None, ...]

    def begins(self, prompt: Tokens) -> bool:
        """Whether a prompt begins so, and goes on."""
        return len(prompt) > len(self.tokens) and all(
            want is None or want == token for want, token in zip(self.tokens, prompt, strict=False)
        )


def common_prefixes(prompts: Sequence[Tokens]) -> list[CommonPrefix]:
    """What many of the prompts begin with: one for each system prompt."""
    step = max(1, -(-len(prompts) // SAMPLE))
    rest, marks = list(prompts[::step]), common_end(prompts[::step])
    least, found = max(LEAST, SHARE * len(rest)), list[CommonPrefix]()
    while len(rest) >= least:
        shared, alike = longest(rest, least)
        if not shared:
            break
        behind = max((at + 1 for at, token in enumerate(shared) if token in marks), default=0)
        if kept := shared if len(shared) - behind >= WORDS else shared[:behind]:
            found.append(CommonPrefix(kept))
        gone = set(map(id, alike))
        rest = [one for one in rest if id(one) not in gone]
    return list(dict.fromkeys(found))


def common_length(prompt: Tokens, prefixes: Sequence[CommonPrefix]) -> int:
    """Tokens of the longest of the prefixes that a prompt begins with."""
    return max((len(prefix.tokens) for prefix in prefixes if prefix.begins(prompt)), default=0)


def longest(prompts: Sequence[Tokens], least: float) -> tuple[tuple[int | None, ...], Sequence[Tokens]]:
    """The longest beginning that `least` of the prompts share, and those that do."""
    shared: tuple[int | None, ...] = ()
    while True:
        for skipped in range(GAP + 1):
            run, alike = common_run(prompts, len(shared) + skipped, least)
            if run and (not skipped or len(run) >= RUN):
                shared, prompts = (*shared, *[None] * skipped, *run), alike
                break
        else:
            return shared, prompts


def common_run(prompts: Sequence[Tokens], start: int, least: float) -> tuple[Tokens, Sequence[Tokens]]:
    """The likeliest tokens from a place on, as far as `least` of the prompts share them, and those that do."""
    run: Tokens = ()
    while True:
        at = start + len(run)
        if not (counts := Counter(one[at] for one in prompts if len(one) > at)):
            return run, prompts
        token, count = max(counts.items(), key=lambda item: (item[1], item[0]))
        if count < least:
            return run, prompts
        run, prompts = (*run, token), [one for one in prompts if len(one) > at and one[at] == token]


def common_end(prompts: Sequence[Tokens]) -> frozenset[int]:
    """Tokens that most prompts end with: those by which the chat template ends a user's turn and begins the answer."""
    run, _ = common_run([one[::-1] for one in prompts], 0, max(2, len(prompts) / 2))
    return frozenset(run)
