"""How surprising a text is to a local causal language model, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple, Protocol

from evaluation.peers.peer import PeerError

if TYPE_CHECKING:  # they take seconds to import, and only a perplexity filter needs them
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TOKENS_AT_ONCE = 256
"""Tokens of one forward pass: what bounds the memory of their logits."""


class LanguageModel(Protocol):
    """What is asked of a causal language model here."""

    @property
    def model(self) -> PreTrainedModel: ...

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase: ...


class Loaded(NamedTuple):
    """A language model read from a folder."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


def load(folder: Path) -> Loaded:
    """A model in fp32 from a local folder. Raises PeerError where it cannot be loaded."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32", local_files_only=True).eval()
        return Loaded(model, AutoTokenizer.from_pretrained(folder, local_files_only=True))
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).splitlines()[0]
        raise PeerError(f"The model at {folder} cannot be loaded ({reason}): give a folder of transformers' own.") from error


@dataclass(frozen=True, slots=True)
class Scorer:
    """The score of a text by a model: mean surprise of its tokens in nats, the logarithm of its perplexity; with a window,
    that of the most surprising run of so many tokens."""

    language: LanguageModel
    window: int = 0

    def __call__(self, text: str) -> float:
        return highest(surprises(self.language, text), self.window)


def highest(values: Sequence[float], size: int) -> float:
    """The highest mean of the runs of `size` (0: all in one) that the values are cut into, the last of which ends where they
    do and may begin within the one before; 0 of no values."""
    size = size or len(values)
    last = max(len(values) - size, 0)
    starts = [*range(0, last, size), last] if values else []
    return max((fmean(values[at : at + size]) for at in starts), default=0.0)


def surprises(language: LanguageModel, text: str) -> list[float]:
    """-log p (nats) of each token of a user's message that stands alone in the model's chat template, the template's own
    tokens read and not counted. Without a template the first token has none. What the model's context has no room for is
    left out."""
    import torch

    ids, first = placed(language, text)
    if first >= len(ids):
        return []
    found: list[float] = []
    cache = None
    with torch.inference_mode():
        for start in range(0, len(ids) - 1, TOKENS_AT_ONCE):
            end = min(start + TOKENS_AT_ONCE, len(ids) - 1)
            read = torch.tensor([ids[start:end]], device=language.model.device)
            out = language.model(read, past_key_values=cache, use_cache=True)
            cache, following = out.past_key_values, torch.tensor(ids[start + 1 : end + 1], device=read.device)
            found += torch.nn.functional.cross_entropy(out.logits[0].float(), following, reduction="none").tolist()
    return found[first - 1 :]


def placed(language: LanguageModel, text: str) -> tuple[list[int], int]:
    """Token ids up to the end of the text, and where it begins among them; it never begins at 0."""
    tokenizer, core = language.tokenizer, text.strip()
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
    room = getattr(language.model.config, "max_position_embeddings", None)
    return list(read["input_ids"])[: mine[-1] + 1][:room], max(mine[0], 1)
