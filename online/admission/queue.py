"""The queue: the distinct prompts of the buffer, which of them an update may not learn from, and why.

All of it is told from token ids, times and hashes, in any language and with no label: whether an operator excluded or
approved a prompt, whether it nearly repeats an earlier one, and whether it waits in quarantine. That is for prompts that
nobody sent who was known a while ago, and for those with a token that a few clients all of a sudden send much more of: long
enough to be looked at.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

from guard.openings import Tokens
from online.admission.common_prefix import NEARLY_ALL, Weights, common_length, common_prefixes, weights
from online.admission.near_duplicates import without_near_duplicates
from online.admission.quarantine import quarantined
from online.admission.queued import FATES, Queued
from online.events.buffer import Buffer
from online.events.event import Event, prompt_hash, without_middle
from online.settings.settings import Settings

LOOKED_AT = 4
"""Events that are looked at for each prompt that the steps can use: prompts come more than once."""
LONG = 100
"""Prompts that are too long which are listed, the newest; all are counted."""
HISTORY = 2000
"""Older events that quarantine compares with at most; with fewer than KNOWN distinct prompts there is nothing to compare."""
KNOWN = 100
HOUR = 3600.0

Whole = tuple[str, Event]
"""The hash of an event's whole prompt, by which operators decide; and the event with the prompt cut as it may teach."""


@dataclass(frozen=True, slots=True)
class Queue:
    """What the buffer held before `until` (unix time, seconds): approved prompts first, then everybody's newest, in turns;
    the events that it came with; the clients (hashes) that are excluded; and how many distinct prompts are too long, of
    which the newest are among the prompts."""

    until: float
    prompts: tuple[Queued, ...]
    events: Sequence[Event]
    excluded: tuple[str, ...] = ()
    long: int = 0

    @classmethod
    def of(
        cls, buffer: Buffer, model: str, until: float, settings: Settings, salt: str, added: Collection[int] = ()
    ) -> Self:
        """As an update of a base (its fingerprint) finds it. added: its tokenizer's added tokens. Raises BufferError."""
        rules, most = settings.queue, LOOKED_AT * settings.update.steps * settings.update.screened_per_step
        reviewed, seen = buffer.reviews("prompt"), buffer.first_seen()
        limit, longest = rules.prompt_tokens, None if rules.cut else rules.prompt_tokens

        def taken(event: Event) -> Whole:
            return prompt_hash(event.prompt_tokens, salt), cut(event, rules.cut)

        asked = buffer.in_turns(model, until, most, longest, taken)
        found = [_decided(one, reviewed) for one in distinct(asked, salt)]
        began = until - rules.quarantine_hours * HOUR
        past = [_decided(one, reviewed) for one in distinct(buffer.in_turns(model, began, HISTORY, longest, taken), salt)]
        compared = len(past) >= KNOWN
        known = {client for client, first in seen.items() if first < began} if compared else seen.keys()
        then = _vouched(past, known)
        now = _vouched((one for one in found if one.first >= began or not compared), known)
        senders = sum(then.values()) if compared else sum(now.values())
        # One sender alone could be anybody. What nearly all begin with now is a new system prompt.
        fresh = now if senders > 1.5 or not compared else {}
        settled = [*common_prefixes(then, added), *common_prefixes(fresh, added, NEARLY_ALL * senders)]
        found = [replace(one, common=common_length(one.tokens, settled)) for one in found]
        if compared:
            before = {one.tokens[common_length(one.tokens, settled) :] for one in past}
            found = quarantined(found, before, seen, began)
        found = without_near_duplicates(found, rules.similarity, salt, common_prefixes(fresh, added))
        found.sort(key=lambda one: one.fate != "approved")
        excluded = (name for name, decision in buffer.reviews("client").items() if decision == "excluded")
        long, newest = (0, []) if rules.cut else buffer.longer(model, until, limit, LONG)
        for one in distinct((taken(event) for event in newest), salt):
            why = f"{len(one.tokens)} tokens, more than queue.prompt_tokens = {limit}"
            found.append(replace(one, fate="long", why=why))
        return cls(until, tuple(found), [event for _, event in asked], tuple(sorted(excluded)), long)

    def counts(self) -> dict[str, int]:
        """Prompts by fate."""
        listed: dict[str, int] = {fate: sum(one.fate == fate for one in self.prompts) for fate in FATES}
        return {**listed, "long": self.long}


def cut(event: Event, most: int | None) -> Event:
    """The event with its prompt cut in the middle to so many tokens."""
    return replace(event, prompt_tokens=without_middle(event.prompt_tokens, most))


def distinct(events: Iterable[Whole], salt: str) -> list[Queued]:
    """Events by prompt as it may teach, in the order of each prompt's first one here."""
    groups: defaultdict[Tokens, list[Whole]] = defaultdict(list)
    for name, event in events:
        groups[event.prompt_tokens].append((name, event))
    found = list[Queued]()
    for tokens, group in groups.items():
        name, newest = max(group, key=lambda one: (one[1].time, one[1].id))
        first, senders = min(event.time for _, event in group), frozenset((e.client, e.block) for _, e in group)
        names = frozenset(name for name, _ in group) | {prompt_hash(tokens, salt)}
        found.append(Queued(newest, first, name, senders, names=names))
    return found


def _vouched(prompts: Iterable[Queued], known: Collection[str]) -> Weights:
    """Prompts that are not excluded, by their known senders: blocks of addresses, or clients where these are not known."""
    return weights(
        (one.tokens, {block or client for client, block in one.senders if client in known})
        for one in prompts
        if one.fate != "excluded"
    )


def _decided(one: Queued, reviewed: Mapping[str, str]) -> Queued:
    decisions = {reviewed.get(name) for name in one.names}
    if "excluded" in decisions:
        return replace(one, fate="excluded", why="by an operator")
    return replace(one, fate="approved") if "approved" in decisions else one
