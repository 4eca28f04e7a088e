"""The queue: look at what the next update may learn from, and decide about it."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from contextlib import closing
from functools import partial

from online.admission.queue import Queue
from online.admission.review import Decision, redact_prompts, review
from online.events.client import client_named
from online.events.redaction import Preparation, Redaction
from online.model.added_tokens import added_tokens
from online.operations.installation import Installation


def look(installation: Installation) -> Queue:
    """The queue as an update would find it now. Raises BufferError."""
    registry, salt = installation.registry, installation.state.client_salt()
    with installation.buffer() as buffer:
        return Queue.of(buffer, registry.base, time.time(), installation.settings, salt, added_tokens(installation.model))


def words(installation: Installation, tokens: Collection[int]) -> dict[int, str]:
    """What tokens of the model read."""
    from transformers import AutoTokenizer  # takes seconds to import, and most looks at the queue need none

    tokenizer = AutoTokenizer.from_pretrained(installation.model)
    return {token: str(tokenizer.decode([token])) for token in sorted(tokens)}


def decide(installation: Installation, kind: str, names: Sequence[str], decision: Decision, *, actor: str) -> None:
    """Approve, exclude or reset queued prompts or clients, by their hashes. Raises ReviewError, BufferError."""
    with installation.buffer() as buffer:
        review(installation.state, buffer, kind, names, decision, actor)


def client_hashes(installation: Installation, names: Sequence[str]) -> list[str]:
    """The hashes of clients that are named by their key, address or hash."""
    return [client_named(installation.state, name) for name in names]


def redact(installation: Installation, prompts: Sequence[str], *, actor: str, redaction: Redaction | None = None) -> int:
    """Redact what is stored of prompts (hashes) and the answers to them; returns the number of events. redaction: one that
    runs already, such as a server's; else one is started. Raises ReviewError, BufferError, RedactionError."""
    if redaction is None:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(installation.model)
        encode = partial(tokenizer.encode, add_special_tokens=False)
        salt = installation.state.client_salt()
        with closing(Preparation(installation.settings.buffer, encode, salt)) as preparation:
            return redact(installation, prompts, actor=actor, redaction=preparation.redaction)
    with installation.buffer() as buffer:
        return redact_prompts(installation.state, buffer, installation.registry.base, prompts, redaction, actor)
