"""The LoRA budget: vLLM's slots, and how many of them our versions may take."""

from __future__ import annotations

ROOM = 4
"""Versions in the engine at once, beside those that clients may pin: the live one, one on its way to serve and two that
drain. vLLM is given one LoRA slot more, which stays empty: its CPU build looks up "no adapter" as index -1, the last slot,
so that an adapter there would leak into base responses of the same batch (vLLM 0.32,
lora/ops/torch_ops/lora_ops.py; tests/serving/test_swap.py saw it before there was an empty slot)."""
TRIALS = 1
"""Slots beside these for adapters in training: one batch of rollouts at a time."""
TRIAL_ID = 1 << 30
"""LoRA ids from here on are adapters in training; versions stay below."""
FIRST_ID = 1_000_000
"""LoRA ids below this are the operator's own modules, which vLLM numbers from 1."""
