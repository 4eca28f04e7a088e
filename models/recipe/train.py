"""From corpus to weights: a small Qwen3, trained from scratch on the assistant's words."""

import math
import random
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR
from torch.overrides import TorchFunctionMode
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from models.recipe.corpus import Example
from models.recipe.tokenizer import CONTEXT

EXAMPLES = 90_000
BATCH = 32
LEARNING_RATE = 3e-3
MATRIX_RATE = 1e-2
"""Peak learning rates of AdamW (embeddings, norms) and of Muon (all other matrices)."""
WARM_UP = 80
PROMPT_WEIGHT = 0.1
"""Weight of a prompt token in the loss, relative to a response token."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of a conversation and, for each, its weight in the loss."""

    ids: list[int]
    weights: list[float]


def config(tokenizer: PreTrainedTokenizerFast) -> Qwen3Config:
    """About 2 million parameters; head size 64 is the smallest vLLM's CPU kernels take."""
    return Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=3,
        num_key_value_heads=3,
        head_dim=64,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        attention_bias=False,
        use_sliding_window=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def encode(example: Example, tokenizer: Any) -> Encoded:
    """Every assistant turn is learned, together with its end token."""
    render = partial(tokenizer.apply_chat_template, tools=list(example.tools) or None, tokenize=False)
    ids: list[int] = []
    weights: list[float] = []
    done = ""
    for index, message in enumerate(example.messages):
        if message["role"] != "assistant":
            continue
        before = render(list(example.messages[:index]), add_generation_prompt=True)
        after = render(list(example.messages[: index + 1]))
        prompt = tokenizer.encode(before[len(done) :], add_special_tokens=False)
        reply = tokenizer.encode(after[len(before) :].removesuffix("\n"), add_special_tokens=False)
        ids += prompt + reply
        weights += [PROMPT_WEIGHT] * len(prompt) + [1.0] * len(reply)
        done = after.removesuffix("\n")
    return Encoded(ids, weights)


def batches(data: list[Encoded], seed: int) -> list[list[Encoded]]:
    """Batches of similar length in random order, so that little is padding."""
    rng = random.Random(f"batches {seed}")
    order = sorted(data, key=lambda item: (len(item.ids), rng.random()))
    cut = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    rng.shuffle(cut)
    return cut


def collate(batch: list[Encoded], pad: int) -> tuple[Tensor, Tensor]:
    """Ids and loss weights, both [batch, longest], padded on the right with weight 0."""
    longest = max(len(item.ids) for item in batch)
    ids = torch.tensor([item.ids + [pad] * (longest - len(item.ids)) for item in batch])
    weights = torch.tensor([item.weights + [0.0] * (longest - len(item.weights)) for item in batch])
    return ids, weights


def loss_of(model: Qwen3ForCausalLM, ids: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean cross-entropy. Padding is on the right, so the causal mask alone keeps it out."""
    logits = model(input_ids=ids[:, :-1]).logits.float()
    losses = cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    weight = weights[:, 1:].flatten()
    return (losses * weight).sum() / weight.sum()


def rate(step: int, steps: int) -> float:
    """Learning rate relative to its peak: linear warm-up, then linear decay to nothing."""
    return min((step + 1) / WARM_UP, (steps - step) / max(1, steps - WARM_UP))


def optimisers(model: Qwen3ForCausalLM) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for the matrices inside the layers (a fifth less loss than AdamW after 250 steps), AdamW for the rest."""
    inside = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    rest = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    return (
        torch.optim.AdamW(rest, lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.01),
        torch.optim.Muon(inside, lr=MATRIX_RATE, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
    )


class Float32(TorchFunctionMode):
    """Muon's orthogonalisation in float32: where the CPU has no bfloat16 of its own that takes an eighth of the time."""

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return args[0].clone() if func is Tensor.bfloat16 else func(*args, **(kwargs or {}))


def train(data: list[Encoded], tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen3ForCausalLM:
    """One pass over the data; returns the model rounded to bfloat16, which is how it is stored."""
    torch.manual_seed(seed)
    model = Qwen3ForCausalLM(config(tokenizer)).train()
    work = batches(data, seed)
    pairs = optimisers(model)
    schedules = [LambdaLR(optimiser, partial(rate, steps=len(work))) for optimiser in pairs]
    bar, smooth = tqdm(work, desc="training", mininterval=2), math.nan
    fast = any(torch.cpu.get_capabilities().get(name) for name in ("avx512_bf16", "amx_bf16"))
    for batch in bar:
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):  # emulated elsewhere, and slow
            loss = loss_of(model, *collate(batch, tokenizer.pad_token_id))
        model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        with nullcontext() if fast else Float32():
            for optimiser in pairs:
                optimiser.step()
        for schedule in schedules:
            schedule.step()
        smooth = loss.item() if math.isnan(smooth) else 0.98 * smooth + 0.02 * loss.item()
        bar.set_postfix(loss=f"{smooth:.3f}", refresh=False)
    return model.to(torch.bfloat16).eval()


def further(model: Qwen3ForCausalLM, data: list[Encoded], pad: int, seed: int, peak: float) -> Qwen3ForCausalLM:
    """One more pass of AdamW over other data, at a peak learning rate; returns the model rounded to bfloat16."""
    work = batches(data, seed)
    optimiser = torch.optim.AdamW(model.train().parameters(), lr=peak, betas=(0.9, 0.95), weight_decay=0.01)
    schedule = LambdaLR(optimiser, lambda step: rate(step, len(work)) if len(work) > WARM_UP else 1.0)
    bar = tqdm(work, desc="training further", mininterval=2)
    for batch in bar:
        loss = loss_of(model, *collate(batch, pad))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    return model.to(torch.bfloat16).eval()
