"""The common prefix: what an operator's system prompt puts before many prompts alike. They are told apart by the rest.

It is found in the token ids, whatever template wrote them. A date in it differs from day to day: a few tokens that differ
are bridged where a long common run goes on behind them. Who sends more prompts does not make a beginning more common.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from guard.openings import Tokens

SHARE, NEARLY_ALL, LEAST = 0.25, 0.9, 8
"""Of all senders so many, and of the prompts how many, must begin alike: operators have few system prompts. Nearly all are
asked for where a few must not pass for everybody."""
SAMPLE = 512
"""Prompts that are looked at, in equal parts of each sender's, and at least one of each."""
GAP, RUN = 8, 16
"""Tokens in a row that may differ, such as a date's, and how many must be common right behind them."""
WORDS = 32
"""Tokens of a common prefix that are dropped though no mark of the chat template ends them: users may well begin alike with
fewer."""
ROUNDING = 1e-9

Weights = Mapping[Tokens, float]
"""Prompts, and what each counts for."""


@dataclass(frozen=True, slots=True)
class CommonPrefix:
    """Tokens that prompts begin with; None: any token, such as a date's."""

    tokens: tuple[int | None, ...]

    def begins(self, prompt: Tokens) -> bool:
        """Whether a prompt begins so, and goes on."""
        return len(prompt) > len(self.tokens) and all(
            want is None or want == token for want, token in zip(self.tokens, prompt, strict=False)
        )


def weights(prompts: Iterable[tuple[Tokens, Collection[str]]]) -> dict[Tokens, float]:
    """Prompts with the names of their senders, weighed: each sender counts for one, in equal parts for each of its prompts,
    however many it sent."""
    groups: defaultdict[str, set[Tokens]] = defaultdict(set)
    for tokens, senders in prompts:
        for sender in senders:
            groups[sender].add(tokens)
    found: defaultdict[Tokens, float] = defaultdict(float)
    for _, group in sorted(groups.items()):
        step = -(-len(group) * len(groups) // SAMPLE)
        taken = sorted(group)[::step]
        for tokens in taken:
            found[tokens] += 1 / len(taken)
    return dict(sorted(found.items()))


def common_prefixes(prompts: Weights, added: Collection[int], least: float | None = None) -> list[CommonPrefix]:
    """What prompts of the weight `least` or more begin with (None: of a quarter of all): one for each system prompt. added:
    the tokenizer's added tokens, among which are the marks that may end one."""
    rest, marks = dict(prompts), turn_marks(prompts, added)
    least = (SHARE * sum(prompts.values()) if least is None else least) - ROUNDING
    found = list[CommonPrefix]()
    while len(rest) >= LEAST:
        shared, alike = longest(rest, least)
        if not shared:
            break
        behind = max((at + 1 for at, token in enumerate(shared) if token in marks), default=0)
        if kept := shared if len(shared) - behind >= WORDS else shared[:behind]:
            found.append(CommonPrefix(kept))
        rest = {tokens: weight for tokens, weight in rest.items() if tokens not in alike}
    return list(dict.fromkeys(found))


def common_length(prompt: Tokens, prefixes: Sequence[CommonPrefix]) -> int:
    """Tokens of the longest of the prefixes that a prompt begins with."""
    return max((len(prefix.tokens) for prefix in prefixes if prefix.begins(prompt)), default=0)


def longest(prompts: Weights, least: float) -> tuple[tuple[int | None, ...], Weights]:
    """The longest beginning that prompts of the weight `least` share, and those that do."""
    shared: tuple[int | None, ...] = ()
    while True:
        for skipped in range(GAP + 1):
            run, alike = common_run(prompts, len(shared) + skipped, least)
            if run and (not skipped or len(run) >= RUN):
                shared, prompts = (*shared, *[None] * skipped, *run), alike
                break
        else:
            return shared, prompts


def common_run(prompts: Weights, start: int, least: float, count: int = LEAST) -> tuple[Tokens, Weights]:
    """The likeliest tokens from a place on, as far as `count` prompts of the weight `least` share them, and who does."""
    run: Tokens = ()
    while True:
        at, having = start + len(run), defaultdict[int, float](float)
        for tokens, weight in prompts.items():
            if len(tokens) > at:
                having[tokens[at]] += weight
        if not having:
            return run, prompts
        token, weight = max(having.items(), key=lambda item: (item[1], item[0]))
        alike = {one: share for one, share in prompts.items() if len(one) > at and one[at] == token}
        if weight < least or len(alike) < count:
            return run, prompts
        run, prompts = (*run, token), alike


def turn_marks(prompts: Weights, added: Collection[int]) -> frozenset[int]:
    """The added tokens at the end of most prompts: by them the chat template ends a user's turn and begins the answer. Words
    of the template there, and line ends, mark nothing, for users write them as well."""
    backwards = {tokens[::-1]: weight for tokens, weight in prompts.items()}
    run, _ = common_run(backwards, 0, sum(prompts.values()) / 2 - ROUNDING, 2)
    return frozenset(run).intersection(added)
