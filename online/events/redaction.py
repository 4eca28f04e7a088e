"""Redaction: personal data and secrets are replaced in an event's texts before it is stored.

The built-in rules know shapes: mails, phones, cards, bank accounts, addresses of machines, keys and passwords, and names
where somebody introduces or addresses somebody. A name without such a cue takes a language model to see: Presidio, by the
extra `presidio`, adds its recognisers to these rules. What each finds in five languages: docs/evidence/attacks.md.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from online.events.event import Event, prompt_hash
from online.events.redactor import Redactor
from online.settings.groups import BufferSettings

log = logging.getLogger("sirl")


@dataclass(frozen=True, slots=True)
class Redaction:
    """Makes events ones that may be stored. `redact`: texts -> each redacted, or None; `encode`: text -> token ids of the
    model, with no special token added."""

    redact: Callable[[Sequence[str]], Sequence[str | None]]
    encode: Callable[[str], Sequence[int]]

    def __call__(self, events: Sequence[Event]) -> list[Event | None]:
        """The events with their texts redacted, and tokens that say no more than they do; None for one that broke it."""
        texts = iter(self.redact([text for event in events for text in (event.prompt, event.response)]))
        return [self._with(event, next(texts), next(texts)) for event in events]

    def _with(self, event: Event, prompt: str | None, response: str | None) -> Event | None:
        if prompt is None or response is None:
            return None
        try:
            if prompt != event.prompt:
                event = replace(event, prompt=prompt, prompt_tokens=tuple(self.encode(prompt)))
            if response != event.response:  # its entropies belonged to other tokens; their mean stays
                event = replace(event, response=response, response_tokens=tuple(self.encode(response)), entropies=())
        except Exception as error:  # of the model's tokenizer: what it chokes on must neither be stored whole nor stop us
            log.warning("The tokenizer broke on a redacted text (%s); it is kept without it.", type(error).__name__)
            return None
        return event


def without_text(event: Event, salt: str) -> Event:
    """The event with nothing in it that can be read: a salted hash in the place of its prompt."""
    digest = f"<{prompt_hash(event.prompt_tokens, salt)}>"
    return replace(event, prompt=digest, prompt_tokens=(), response="", response_tokens=(), entropies=())


class Preparation:
    """What is done to events before they are stored, by `buffer.text`. One on which redaction breaks is kept without text.

    Raises:
        RedactionError: redaction asks for what is not installed, or does not start.
    """

    def __init__(self, settings: BufferSettings, encode: Callable[[str], Sequence[int]], salt: str) -> None:
        self.text, self.salt, self.redactor = settings.text, salt, Redactor(settings.presidio)
        self.redaction = Redaction(self.redactor, encode)
        if self.text == "redacted":
            self.redactor.start()

    def __call__(self, events: Sequence[Event]) -> list[Event]:
        if self.text == "full":
            return list(events)
        less = self.redaction(events) if self.text == "redacted" else [None] * len(events)
        return [
            without_text(event, self.salt) if redacted is None else redacted
            for event, redacted in zip(events, less, strict=True)
        ]

    def close(self) -> None:
        self.redactor.close()
