"""How surprising a text is to a local causal language model, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from online.model.local_model import LocalModel


@dataclass(frozen=True, slots=True)
class Scorer:
    """The score of a text by a model: mean surprise of its tokens in nats, the logarithm of its perplexity; with a window,
    that of the most surprising run of so many tokens."""

    policy: LocalModel
    window: int = 0

    def __call__(self, text: str) -> float:
        return highest(surprises(self.policy, text), self.window)


def highest(values: Sequence[float], size: int) -> float:
    """The highest mean of the runs of `size` (0: all in one) that the values are cut into, the last of which ends where they
    do and may begin within the one before; 0 of no values."""
    size = size or len(values)
    last = max(len(values) - size, 0)
    starts = [*range(0, last, size), last] if values else []
    return max((fmean(values[at : at + size]) for at in starts), default=0.0)


def surprises(policy: LocalModel, text: str) -> list[float]:
    """-log p (nats) of each token of a user's message that stands alone in the model's chat template, the template's own
    tokens read and not counted. Without a template the first token has none. What the model's context has no room for is
    left out."""
    from online.model.chunked_logits import per_token
    from online.model.entropy import entropy_and_logprob

    ids, first = placed(policy, text)
    if first >= len(ids):
        return []
    logits, tokens, _ = policy.response_logits([ids[:first]], [ids[first:]])
    logprobs = per_token(lambda rows, chosen: entropy_and_logprob(rows, chosen)[1], logits, tokens)
    return [-logprob for logprob in logprobs[0].tolist()]


def placed(policy: LocalModel, text: str) -> tuple[list[int], int]:
    """Token ids up to the end of the text, and where it begins among them; it never begins at 0."""
    tokenizer, core = policy.tokenizer, text.strip()
    if not core:
        return [], 0
    whole = text
    if tokenizer.chat_template:
        whole = str(tokenizer.apply_chat_template([{"role": "user", "content": text}], tokenize=False))
    # A template that changes the text is counted whole.
    start = whole.rfind(core)
    start, end = (start, start + len(core)) if start >= 0 else (0, len(whole))
    read = tokenizer(whole, add_special_tokens=not tokenizer.chat_template, return_offsets_mapping=True)
    mine = [at for at, (a, b) in enumerate(read["offset_mapping"]) if a < b and b > start and a < end]
    if not mine:
        return [], 0
    room = getattr(policy.model.config, "max_position_embeddings", None)
    return list(read["input_ids"])[: mine[-1] + 1][:room], max(mine[0], 1)
