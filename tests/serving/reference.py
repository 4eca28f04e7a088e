"""The forward pass every entropy is held against: transformers, fp32, all at once."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM

import models
from guard.entropy import token_entropy
from guard.openings import ROOT, Openings


@cache
def model(folder: Path, adapter: Path | None = None):
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if adapter is not None:
        from peft import PeftModel

        base = PeftModel.from_pretrained(base, adapter)
    return base.eval()


@torch.no_grad()
def logits(prompt: list[int], response: list[int], adapter: Path | None = None, folder: Path | None = None) -> np.ndarray:
    """[response tokens, vocabulary] raw logits each of the response's tokens was drawn from."""
    ids = torch.tensor([prompt + response])
    out = model(folder or models.bundled(), adapter)(ids).logits[0]
    return out[len(prompt) - 1 : -1].numpy()


def entropies(prompt: list[int], response: list[int], adapter: Path | None = None) -> np.ndarray:
    """Entropy in nats at each token of the response."""
    return token_entropy(logits(prompt, response, adapter))


def mass(openings: Openings, answer: np.ndarray, tokens: list[int]) -> float:
    """Refusal mass at the deepest node that an answer with these logits and tokens reached."""
    node, found = ROOT, float("nan")
    for row, token in zip(answer, tokens, strict=True):
        if node < ROOT:
            break
        if openings.reasoning and node == ROOT:  # among the tokens that begin an answer
            row = np.where(np.isin(np.arange(len(row)), sorted(openings.reasoning.aside)), -np.inf, row)
        p = np.exp(row - np.logaddexp.reduce(row))
        found = float(sum(p[child] * weight for child, weight in openings.children(node)))
        node = openings.step(node, token)
    return found
