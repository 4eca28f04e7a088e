"""Quarantine: new prompts of unknown clients, and those with a token that suddenly comes from a few."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from guard.openings import Tokens
from online.admission.queued import Queued, Sender

SUDDEN_PROMPTS, SUDDEN_RISE, SUDDEN_SENDERS = 8, 4.0, 10
"""A token is sudden that is in so many new prompts or more, whose share of the prompts rose so many times or more, and that
came from fewer known blocks of addresses than these."""


def quarantined(
    prompts: Sequence[Queued], before: Collection[Tokens], first_seen: Mapping[str, float], began: float
) -> list[Queued]:
    """Prompts that first came after `began` (unix time, seconds) held where none of their clients was known before it, or
    their own part has a token that is sudden beside those of `before`; and each prompt's senders without those who were not
    known: fresh clients vouch for nothing and take nothing off anybody's quota."""
    known = {one.prompt: {s for s in one.senders if first_seen.get(s[0], began) < began} for one in prompts}
    trusted = [replace(one, senders=frozenset(known[one.prompt] or one.senders)) for one in prompts]
    new = [one for one in trusted if one.first >= began and one.fate == "queued"]
    sudden = sudden_tokens([(one.own, known[one.prompt]) for one in new], before)
    held: dict[str, Queued] = {}
    for one in new:
        if tokens := sudden.intersection(one.own):
            held[one.prompt] = replace(one, fate="sudden", why="a sudden token", token=min(tokens))
        elif not known[one.prompt]:
            held[one.prompt] = replace(one, fate="unknown", why="none of its clients was known before")
    return [held.get(one.prompt, one) for one in trusted]


def sudden_tokens(new: Sequence[tuple[Tokens, Collection[Sender]]], before: Collection[Tokens]) -> set[int]:
    """Token ids that are in many of the new prompts, from a few known senders, and that hardly were in those before."""
    were = Counter(token for tokens in before for token in set(tokens))
    now = Counter(token for tokens, _ in new for token in set(tokens))
    rose = {
        token
        for token, count in now.items()
        if count >= SUDDEN_PROMPTS and count / len(new) >= SUDDEN_RISE * (were[token] + 1) / (len(before) + 1)
    }
    sources: defaultdict[int, set[str]] = defaultdict(set)
    for tokens, senders in new:
        for token in rose.intersection(tokens):
            sources[token] |= {block or client for client, block in senders}
    return {token for token in rose if len(sources[token]) < SUDDEN_SENDERS}
