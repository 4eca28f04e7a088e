"""Learnable: whether a model's refusing can be measured and taught, told before anything is spent on it.

Refusal masses come of a tree of openings behind a prompt, each branch of which sees its own ancestors by a mask. Layers that
slide a window over the tokens, or carry a state from one to the next, see past it: branches would leak into each other.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from guard.openings import Tokens
from online.model.checkpoint import configuration
from online.model.conditions import quantization_of
from online.model.local_model import LocalModel
from online.model.opening_trees import path_logprobs

OTHER_SENSES = ("vision_config", "audio_config", "speech_config", "video_config", "image_config", "encoder_config")
"""What a configuration has beside that of its text."""
WHOLE = ("full_attention", "sliding_attention", "chunked_attention")
"""Kinds of layers that see earlier tokens by a mask."""
OPENING = 16
"""Tokens of an opening at most, which follow a prompt."""
LENGTHS = (23, 14)
"""Of the prompts that trees are checked behind, in tokens: two, for the shorter one is padded."""
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-3}
ROUNDED = 0.25
"""Mean difference of the log-probabilities (nats) that rounding explains: in fp32, and in half precision."""


def unlearnable(folder: Path, longest: int) -> str | None:
    """Why the model in a folder cannot be learned by prompts of so many tokens, as its configuration tells; a sentence's
    second half. Raises CheckpointError."""
    config = configuration(folder)
    if method := quantization_of(config.get("quantization_config")):
        return f"its weights are quantised ({method}), which cannot be learned on: take the model before it was quantised"
    if any(config.get(name) for name in OTHER_SENSES):
        return "it takes more than text, which the learner does not do: guard it without learning"
    if other := sorted({*(config.get("layer_types") or ())}.difference(WHOLE)):
        return f"its layers ({', '.join(other)}) carry a state past the mask of the opening tree: guard it without learning"
    if (window := narrow_window(config, longest)) is None:
        return None
    return (
        f"its attention sees {window} tokens back and prompts of {longest} are learned from: set queue.prompt_tokens to "
        f"{window - OPENING} or less, or guard it without learning"
    )


def narrow_window(config: dict[str, Any], longest: int) -> int | None:
    """The tokens that a model's attention sees back, by its configuration, where prompts of so many tokens with an opening
    behind them are more; else None."""
    config = config.get("text_config") or config
    layers = set(config.get("layer_types") or ())
    narrow = bool(layers - {"full_attention"}) if layers else config.get("use_sliding_window", True)
    windows = [config.get("sliding_window"), config.get("attention_chunk_size")]
    window = min((int(size) for size in windows if narrow and size), default=None)
    return None if window is None or longest + OPENING <= window else window


def inexact(llm: LocalModel) -> str | None:
    """Why opening trees do not tell a model's probabilities: held against plain passes over two short prompts, with no
    tree, no padding and no mask."""
    try:
        error = tree_error(llm)
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as problem:
        reason = (str(problem).splitlines() or [type(problem).__name__])[0]
        return f"its layers do not take the mask of the opening tree ({reason}): guard it without a calibration"
    if error <= TOLERANCE.get(llm.model.dtype, ROUNDED):  # a NaN is not within any tolerance
        return None
    return (
        f"its layers see past the mask of the opening tree, whose log-probabilities are off by {error:.2g} nats: guard it "
        "without a calibration"
    )


@torch.no_grad()
def tree_error(llm: LocalModel) -> float:
    """Mean difference (nats) between log-probabilities of paths by opening trees and by plain passes, a row a path."""
    prompts, paths = probes(llm)
    trees, taken = path_logprobs(llm, prompts, paths), torch.tensor(paths, device=llm.model.device)
    plain = []
    for prompt in prompts:
        ids = torch.tensor([[*prompt, *path] for path in paths], device=llm.model.device)
        logits = llm.model(input_ids=ids, use_cache=False).logits[:, len(prompt) - 1 : -1].float()
        plain.append(logits.log_softmax(-1).gather(-1, taken[:, :, None]).sum((1, 2)))
    return float((trees - torch.stack(plain)).abs().mean())


def probes(llm: LocalModel) -> tuple[list[Tokens], list[Tokens]]:
    """Prompts of ordinary tokens, spread over the vocabulary, and paths of one length that branch behind them."""
    marks = set(llm.tokenizer.get_added_vocab().values()) | set(llm.tokenizer.all_special_ids)
    ordinary = sorted(set(llm.tokenizer.get_vocab().values()) - marks)
    spread = [ordinary[at * 7919 % len(ordinary)] for at in range(sum(LENGTHS) + 8)]
    first, second = tuple(spread[: LENGTHS[0]]), tuple(spread[LENGTHS[0] : sum(LENGTHS)])
    a, b, c, d, e, f, g, h = spread[sum(LENGTHS) :]
    return [first, second], [(a, b, c), (a, b, d), (a, e, f), (g, h, a)]
