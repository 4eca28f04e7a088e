"""The queue: the distinct prompts of the buffer, and which of them an update may not learn from, and why.

All of it is told from token ids, times and hashes, in any language and with no label: whether an operator excluded or
approved a prompt, whether it nearly repeats an earlier one, and whether it waits in quarantine. That is for prompts that
nobody sent who was known a while ago, and for those with a token that a few clients all of a sudden send much more of: long
enough to be looked at.
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
Sender = tuple[str, str]
"""Who sent a prompt: the hashes of a client and of its block of addresses ("": not known)."""
Shingle = tuple[int, int]
"""Two tokens in a row, by which prompts are compared."""
PROMPT_TOKENS = 1024
"""Longer prompts are not learned from (the published setting's limit)."""
LOOKED_AT = 4
"""Events that are looked at for each prompt that the steps can use: prompts come more than once."""
HASHES, BANDS = 64, 16
"""Of MinHash: prompts alike by 0.8 are found with a probability of 1 - (1 - 0.8 ** 4) ** 16 = 0.9998."""
FINDS, CANDIDATES = 256, 16
"""Of its finds so many are estimated, and the likeliest compared: an attacker could have it find everything."""
HISTORY = 2000
"""Older events that quarantine compares with at most; with fewer than KNOWN distinct prompts there is nothing to compare."""
KNOWN = 100
SUDDEN_PROMPTS, SUDDEN_RISE, SUDDEN_SENDERS = 8, 4.0, 10
"""A token is sudden that is in so many new prompts or more, whose share of the prompts rose so many times or more, and that
came from fewer known blocks of addresses than these."""
HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Queued:
    """A distinct prompt: its newest event, when it first came (unix time, seconds), its hash, who sent it (of these, those
    who were known a while ago, if any were), and what becomes of it."""

    event: Event
    first: float
    prompt: str
    senders: frozenset[Sender]
    fate: Fate = "queued"
    why: str = ""
    token: int | None = None
    """The sudden one."""

    @property
    def tokens(self) -> Tokens:
        return self.event.prompt_tokens

    @property
    def clients(self) -> frozenset[str]:
        return frozenset(client for client, _ in self.senders)

    @property
    def blocks(self) -> frozenset[str]:
        return frozenset(block for _, block in self.senders)

    @property
    def admitted(self) -> bool:
        """Whether an update may learn from it."""
        return self.fate in ADMITTED


@dataclass(frozen=True, slots=True)
class Queue:
    """What the buffer held before `until` (unix time, seconds): approved prompts first, then everybody's newest, in turns;
    the events that it came with; and the clients (hashes) that are excluded."""

    until: float
    prompts: tuple[Queued, ...]
    events: Sequence[Event]
    excluded: tuple[str, ...] = ()

    @classmethod
    def of(cls, buffer: Buffer, model: str, until: float, settings: Settings, salt: str) -> Self:
        """As an update of a base model (its fingerprint) finds it. Raises BufferError."""
        rules, most = settings.queue, LOOKED_AT * settings.update.steps * settings.update.screened_per_step
        reviewed, seen = buffer.reviews("prompt"), buffer.first_seen()
        events = buffer.in_turns(model, until, most, PROMPT_TOKENS)
        found = [_decided(one, reviewed) for one in distinct(events, salt)]
        began = until - rules.quarantine_hours * HOUR
        older = {event.prompt_tokens for event in buffer.in_turns(model, began, HISTORY, PROMPT_TOKENS)}
        if len(older) >= KNOWN:
            found = quarantined(found, older, seen, began)
        found = without_echoes(found, rules.similarity, salt)
        found.sort(key=lambda one: one.fate != "approved")
        excluded = (name for name, decision in buffer.reviews("client").items() if decision == "excluded")
        return cls(until, tuple(found), events, tuple(sorted(excluded)))

    def counts(self) -> dict[str, int]:
        """Prompts by fate."""
        return {fate: sum(one.fate == fate for one in self.prompts) for fate in FATES}


def distinct(events: Iterable[Event], salt: str) -> list[Queued]:
    """Events by prompt, in the order of each prompt's first one here."""
    groups: defaultdict[Tokens, list[Event]] = defaultdict(list)
    for event in events:
        groups[event.prompt_tokens].append(event)
    return [
        Queued(
            max(group, key=lambda event: (event.time, event.id)),
            min(event.time for event in group),
            prompt_hash(tokens, salt),
            frozenset((event.client, event.block) for event in group),
        )
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
    prompts: Sequence[Queued], before: Collection[Tokens], first_seen: Mapping[str, float], began: float
) -> list[Queued]:
    """Prompts that first came after `began` (unix time, seconds) held where none of their clients was known before it, or
    they have a sudden token; and each prompt's senders without those who were not: fresh clients vouch for nothing and take
    nothing off anybody's quota."""
    known = {one.prompt: {s for s in one.senders if first_seen.get(s[0], began) < began} for one in prompts}
    trusted = [replace(one, senders=frozenset(known[one.prompt] or one.senders)) for one in prompts]
    new = [one for one in trusted if one.first >= began and one.fate == "queued"]
    sudden = sudden_tokens([(one.tokens, known[one.prompt]) for one in new], before)
    held: dict[str, Queued] = {}
    for one in new:
        if tokens := sudden.intersection(one.tokens):
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


def without_echoes(prompts: Sequence[Queued], similarity: float, salt: str) -> list[Queued]:
    """Those that nearly repeat an earlier one marked as duplicates: whose shingles overlap by a Jaccard index of
    `similarity` or more (1: none is one). MinHash finds candidates, of which the exact index decides."""
    if similarity >= 1:
        return list(prompts)
    kept: dict[str, tuple[MinHash, frozenset[Shingle]]] = {}
    near = MinHashLSH(num_perm=HASHES, params=(BANDS, HASHES // BANDS))
    seed = int(salt.encode().hex()[:8], 16)  # nobody outside knows what it will find alike
    marked: dict[str, Queued] = {}
    for one in sorted((p for p in prompts if p.admitted), key=lambda p: (p.fate != "approved", p.first, p.prompt)):
        mine = shingles(one.tokens)
        sketch = MinHash(num_perm=HASHES, seed=seed, hashfunc=mixed)
        sketch.update_batch(mine)
        finds = sorted(near.query(sketch))[:FINDS]
        likely = sorted(finds, key=lambda name: (-sketch.jaccard(kept[name][0]), name))[:CANDIDATES]
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
    """32 bits of it, the same in every process."""
    return hash(shingle) & 0xFFFF_FFFF


def jaccard(a: frozenset[Shingle], b: frozenset[Shingle]) -> float:
    return len(a & b) / len(a | b)
