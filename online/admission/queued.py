"""A distinct prompt in the queue, and its fate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from guard.openings import Tokens
from online.events.event import Event

Fate = Literal["queued", "approved", "excluded", "duplicate", "unknown", "sudden", "long"]
FATES: tuple[Fate, ...] = get_args(Fate)
"""Unknown and sudden ones are in quarantine: for their clients, or for a token of theirs. Long ones never teach."""
ADMITTED: tuple[Fate, ...] = ("queued", "approved")
Sender = tuple[str, str]
"""Who sent a prompt: the hashes of a client and of its block of addresses ("": not known)."""


@dataclass(frozen=True, slots=True)
class Queued:
    """A distinct prompt, as it may teach: its newest event, when it first came (unix time, seconds), the hash of the whole
    prompt of that event, who sent it (of these, those who were known a while ago, if any were), and what becomes of it."""

    event: Event
    first: float
    prompt: str
    senders: frozenset[Sender]
    fate: Fate = "queued"
    why: str = ""
    token: int | None = None
    """The sudden one."""
    common: int = 0
    """How many of its first tokens an operator's system prompt puts before many alike."""
    names: frozenset[str] = frozenset()
    """Hashes by which an operator may have decided about it: those of all whole prompts that are cut to it, and its own."""

    @property
    def tokens(self) -> Tokens:
        return self.event.prompt_tokens

    @property
    def own(self) -> Tokens:
        """What it is told from others by."""
        return self.tokens[self.common :]

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
