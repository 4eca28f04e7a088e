"""The served model: its names, tokenizer and conditions, known once its engine is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from guard.calibration import Conditions


class Tokenizer(Protocol):
    """What is asked of the model's tokenizer here."""

    def decode(self, tokens: Sequence[int], /) -> str: ...

    def encode(self, text: str, /, *, add_special_tokens: bool) -> list[int]: ...


@dataclass(frozen=True, slots=True)
class Served:
    """The model as an engine serves it.

    Attributes:
        names: the model's names, as clients know it.
        conditions: under which a calibration must have been made; None: they are not known.
        reasoning_parser: vLLM's parser of the model's reasoning, "" where it was given none.
        modules: names of the operator's own LoRA modules.
        offer: tells vLLM under which further names the model is to be had.
        rollout_share: one of so many of the engine's sequences may be a rollout.
    """

    names: tuple[str, ...]
    tokenizer: Tokenizer
    conditions: Conditions | None
    reasoning_parser: str
    modules: tuple[str, ...]
    offer: Callable[[Sequence[str]], None]
    rollout_share: int
