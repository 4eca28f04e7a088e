"""Token entropy in torch: the only one in the project, used by the vLLM worker probe and by the trainer.

Inference only. `guard.entropy` is the NumPy reference it is held against. On a GPU a kernel reads the logits once
(`online.model.entropy_kernel`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from shutil import which

import torch
from torch import Tensor

_CACHED = 1 << 17
"""Logits handled at once on a CPU: 512 KiB in fp32 stays in cache, 2 to 3.5 times faster than all at once."""
_ZERO = -200.0
"""exp() is 0 in fp32 well above this, so shifted logits may be clamped to it: 0 log 0 = 0, and NaN stays."""


@torch.no_grad()
def token_entropy(logits: Tensor) -> Tensor:
    """Shannon entropy in nats of softmax(logits) at temperature 1, over the whole last axis, in fp32.

    H = -sum_v p_v log p_v = logsumexp(x) - sum_v p_v x_v. A logit of -inf adds nothing; a NaN, or a row
    without a finite logit, gives NaN. Shape (..., vocabulary) -> (...). Source: arXiv 2510.01088, the
    entropy inside the reward.
    """
    return _scan(logits.reshape(-1, logits.shape[-1]))[0].view(logits.shape[:-1])


@torch.no_grad()
def entropy_and_logprob(logits: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Entropy of each row and the log-probability of its token: (rows, vocabulary), (rows,) -> (rows,), (rows,), in nats."""
    entropy, normaliser = _scan(logits)
    return entropy, logits.gather(1, tokens[:, None])[:, 0].float() - normaliser


@torch.no_grad()
def entropy_and_mass(logits: Tensor, children: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Entropy of each row and its refusal mass, sum_c weight_c p_c over the children of the row's tree node.

    logits (rows, vocabulary); children (rows, C) token ids, padded with -1; weights (rows, C). Both results
    have shape (rows,) and share one logsumexp.
    """
    entropy, normaliser = _scan(logits)
    chosen = logits.gather(1, children.clamp(min=0)).float()
    shares = (chosen - normaliser[:, None]).exp() * weights
    return entropy, shares.masked_fill(children < 0, 0.0).sum(1)


@torch.no_grad()
def mass_among(logits: Tensor, children: Tensor, weights: Tensor) -> Tensor:
    """The refusal mass of `entropy_and_mass` among the tokens that are no child of weight 0; shapes as there.

    Those are left out of the sum that probabilities are shares of, not subtracted from it: they may be all but all of it.
    """
    kept = logits.float().clone()
    out = (children >= 0) & (weights == 0)
    first = children.clamp(min=0)
    dropped = torch.zeros_like(kept, dtype=torch.int32).scatter_add_(1, first, out.int()) > 0
    kept.masked_fill_(dropped, -torch.inf)
    shares = (kept.gather(1, first) - kept.logsumexp(1)[:, None]).exp() * weights
    return shares.masked_fill(children < 0, 0.0).sum(1)


def _scan(logits: Tensor) -> tuple[Tensor, Tensor]:
    """(entropy, logsumexp) of each row of (rows, vocabulary), in fp32.

    On a GPU by the kernel, where Triton can build one. On a CPU as many rows at a time as stay in cache, and without the
    clamp, a pass less; 0 x -inf then leaves a NaN, and rows with one are read again, with it.
    """
    if logits.is_cuda and (kernel := _kernel()) is not None:
        return kernel(logits)
    on_cpu = logits.device.type == "cpu"
    entropy, normaliser = _read(logits, clamp=not on_cpu)
    if on_cpu and (again := entropy.isnan()).any():
        entropy[again], normaliser[again] = _read(logits[again], clamp=True)
    return entropy, normaliser


@cache
def _kernel() -> Callable[[Tensor], tuple[Tensor, Tensor]] | None:
    """The GPU's kernel; None without Triton, or without the C compiler that Triton starts its kernels by."""
    if not any(map(which, (os.environ.get("CC", ""), "gcc", "clang"))):
        return None
    try:
        from online.model.entropy_kernel import scan
    except ImportError:
        return None
    return scan


def _read(logits: Tensor, *, clamp: bool) -> tuple[Tensor, Tensor]:
    step = max(1, _CACHED // logits.shape[1]) if logits.device.type == "cpu" else max(1, len(logits))
    entropy = torch.empty(len(logits), dtype=torch.float32, device=logits.device)
    normaliser = torch.empty_like(entropy)
    buffers = entropy.new_empty(2, min(step, len(logits)), logits.shape[1])
    for start in range(0, len(logits), step):
        rows = slice(start, start + step)
        x = logits[rows].float()
        shifted, weight = buffers[:, : len(x)]
        top = x.amax(1, keepdim=True)
        torch.sub(x, top, out=shifted)
        if clamp:
            shifted.clamp_(min=_ZERO)
        torch.exp(shifted, out=weight)
        total = weight.sum(1)
        log_total = total.log()
        entropy[rows] = log_total - shifted.mul_(weight).sum(1) / total
        normaliser[rows] = top[:, 0] + log_total
    return entropy, normaliser
