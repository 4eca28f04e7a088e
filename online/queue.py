"""The queue: the distinct prompts of the buffer, and which of them an update may not learn from, and why.

All of it is told from token ids, times and hashes, in any language and with no label: whether an operator excluded or
approved a prompt, whether it nearly repeats an earlier one, and whether it waits in quarantine. That is for clients nobody
knew a while ago, and for prompts with a token that a few clients all of a sudden send much more of: long enough to be looked
at.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self, get_args

from datasketch import MinHash, MinHashLSH

from guard.openings import Tokens
from online.buffer import Buffer
from online.event import Event, prompt_hash
from online.settings import Settings

Fate = Literal["queued", "approved", "excluded", "duplicate", "unknown", "sudden"]
FATES: tuple[Fate, ...] = get_args(Fate)
"""The last two are in quarantine: for their clients, or for a token of theirs."""
ADMITTED: tuple[Fate, ...] = ("queued", "approved")
PROMPT_TOKENS = 1024
"""Longer prompts are not learned from (the published setting's limit)."""
LOOKED_AT = 4
"""Newest events that are looked at for each prompt that the steps can use: prompts come more than once."""
Shingle = tuple[int, int]
"""Two tokens in a row, by which prompts are compared."""
HASHES, CANDIDATES = 64, 16
"""Of MinHash, and the likeliest of its finds that are looked at, for an attacker could have it find everything."""
HISTORY = 2000
"""Older events that quarantine compares with at most; with fewer than KNOWN distinct prompts there is nothing to compare."""
KNOWN = 100
SUDDEN_PROMPTS, SUDDEN_RISE, SUDDEN_CLIENTS = 8, 4.0, 10
"""A token is sudden that is in so many new prompts or more, whose share of the prompts rose so many times or more, and that
fewer clients than these sent."""
HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Queued:
    """A distinct prompt: its newest event, the hashes of the prompt and of all who sent it, and what becomes of it."""

    event: Event
    prompt: str
    clients: frozenset[str]
    blocks: frozenset[str]
    fate: Fate = "queued"
    why: str = ""
    token: int | None = None
    """The sudden one."""

    @property
    def tokens(self) -> Tokens:
        return self.event.prompt_tokens

    @property
    def admitted(self) -> bool:
        """Whether an update may learn from it."""
        return self.fate in ADMITTED


@dataclass(frozen=True, slots=True)
class Queue:
    """What the buffer held before `until` (unix time, seconds), the newest first, and the events that it came with."""

    until: float
    prompts: tuple[Queued, ...]
    events: Sequence[Event]

    @classmethod
    def of(cls, buffer: Buffer, model: str, until: float, settings: Settings, salt: str) -> Self:
        """As an update of a base model (its fingerprint) finds it. Raises BufferError."""
        rules, most = settings.queue, LOOKED_AT * settings.update.steps * settings.update.screened_per_step
        reviewed, clients = buffer.reviews("prompt"), buffer.reviews("client")
        events = [
            event
            for event in buffer.events(until=until, model=model, limit=most)
            if clients.get(event.client) != "excluded" and 0 < len(event.prompt_tokens) <= PROMPT_TOKENS
        ]
        found = [_decided(one, reviewed) for one in distinct(events, salt)]
        began = until - rules.quarantine_hours * HOUR
        older = buffer.events(until=began, model=model, limit=HISTORY)
        if len({event.prompt_tokens for event in older}) >= KNOWN:
            found = quarantined(found, older, buffer.first_seen(), began)
        return cls(until, tuple(without_echoes(found, rules.similarity)), events)

    def counts(self) -> dict[str, int]:
        """Prompts by fate."""
        return {fate: sum(one.fate == fate for one in self.prompts) for fate in FATES}


def distinct(events: Iterable[Event], salt: str) -> list[Queued]:
    """Events by prompt, in the order of each prompt's first one here."""
    groups: defaultdict[Tokens, list[Event]] = defaultdict(list)
    for event in events:
        groups[event.prompt_tokens].append(event)
    return [
        Queued(group[0], prompt_hash(tokens, salt), frozenset(e.client for e in group), frozenset(e.block for e in group))
        for tokens, group in groups.items()
    ]


def _decided(one: Queued, reviewed: Mapping[str, str]) -> Queued:
    match reviewed.get(one.prompt):
        case "approved":
            return replace(one, fate="approved")
        case "excluded":
            return replace(one, fate="excluded", why="by an operator")
    return one


def quarantined(
    prompts: Sequence[Queued], older: Sequence[Event], first_seen: Mapping[str, float], began: float
) -> list[Queued]:
    """Prompts after `began` (unix time, seconds) that wait: all of whose clients came after it, or with a sudden token."""
    new = [one for one in prompts if one.event.time >= began and one.fate == "queued"]
    sudden = sudden_tokens(new, {event.prompt_tokens for event in older})
    held: dict[str, Queued] = {}
    for one in new:
        if tokens := sudden.intersection(one.tokens):
            held[one.prompt] = replace(one, fate="sudden", why=f"token {min(tokens)}", token=min(tokens))
        elif all(first_seen.get(client, began) >= began for client in one.clients):
            held[one.prompt] = replace(one, fate="unknown", why="none of its clients was known before")
    return [held.get(one.prompt, one) for one in prompts]


def sudden_tokens(new: Sequence[Queued], before: Collection[Tokens]) -> set[int]:
    """Token ids that a few clients put into many of the new prompts and that hardly were in those before."""
    were = Counter(token for tokens in before for token in set(tokens))
    now = Counter(token for one in new for token in set(one.tokens))
    rose = {
        token
        for token, count in now.items()
        if count >= SUDDEN_PROMPTS and count / len(new) >= SUDDEN_RISE * (were[token] + 1) / (len(before) + 1)
    }
    senders: defaultdict[int, set[str]] = defaultdict(set)
    for one in new:
        for token in rose.intersection(one.tokens):
            senders[token] |= one.clients
    return {token for token in rose if len(senders[token]) < SUDDEN_CLIENTS}


def without_echoes(prompts: Sequence[Queued], similarity: float) -> list[Queued]:
    """Those that nearly repeat an earlier one marked as duplicates: whose shingles overlap by a Jaccard index of
    `similarity` or more (1: none is one). MinHash finds candidates, of which the exact index decides."""
    if similarity >= 1:
        return list(prompts)
    kept: dict[str, tuple[MinHash, frozenset[Shingle]]] = {}
    near = MinHashLSH(threshold=similarity, num_perm=HASHES)
    marked: dict[str, Queued] = {}
    for one in sorted((p for p in prompts if p.admitted), key=lambda p: (p.fate != "approved", p.event.time, p.event.id)):
        mine = shingles(one.tokens)
        sketch = MinHash(num_perm=HASHES, hashfunc=mixed)
        sketch.update_batch(mine)
        likely = sorted(near.query(sketch), key=lambda name: (-sketch.jaccard(kept[name][0]), name))[:CANDIDATES]
        twin = next((name for name in likely if jaccard(mine, kept[name][1]) >= similarity), None)
        if twin is None or one.fate == "approved":
            near.insert(one.prompt, sketch)
            kept[one.prompt] = sketch, mine
        else:
            marked[one.prompt] = replace(one, fate="duplicate", why=f"of {twin}")
    return [marked.get(one.prompt, one) for one in prompts]


def shingles(tokens: Tokens) -> frozenset[Shingle]:
    """Every pair of neighbours; of a single token that alone."""
    return frozenset(zip(tokens, tokens[1:], strict=False)) or frozenset({(tokens[0], tokens[0])})


def mixed(shingle: Shingle) -> int:
    """32 bits of it."""
    return hash(shingle) & 0xFFFF_FFFF


def jaccard(a: frozenset[Shingle], b: frozenset[Shingle]) -> float:
    return len(a & b) / len(a | b)
