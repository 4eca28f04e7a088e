"""Attention as a learner needs it: padding sees itself, and on CPUs keys and values are not copied for every query head.

A row of left padding sees nothing by transformers' mask. What a GPU's kernel makes of a row without a key depends on the
kernel, and a gradient through it may be no number, which spoils all weights. Nobody reads what padding makes of itself.

transformers repeats keys and values as soon as there is a mask. Of a model with seven query heads to a key head a decoding
step then copies more than it computes. The products are the same.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "grouped_sdpa"
"""What transformers calls it."""


def attend_so(model: PreTrainedModel) -> None:
    """Have a model attend so, where it would by torch's own function."""
    if model.config._attn_implementation == "sdpa":
        AttentionInterface.register(NAME, attention)
        AttentionMaskInterface.register(NAME, seeing_itself)
        model.set_attn_implementation(NAME)


def seeing_itself(*, q_length: int, kv_length: int, q_offset: int = 0, kv_offset: int = 0, **more: Any) -> Tensor | None:
    """transformers' mask, (batch, 1, queries, keys), True where a key is seen, and every query seeing its own."""
    lengths: dict[str, Any] = {"q_length": q_length, "kv_length": kv_length, "q_offset": q_offset, "kv_offset": kv_offset}
    mask: Tensor | None = sdpa_mask(**lengths, **more)
    if mask is None or q_length == 1:  # what is decoded is no padding
        return mask
    keys = torch.arange(kv_length, device=mask.device) + kv_offset
    return mask | (keys == torch.arange(q_length, device=mask.device)[:, None] + q_offset)


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """(batch, heads, columns, width), twice (batch, groups, all columns, width) -> (batch, columns, heads, width).
    Heads of a group that read one column are taken for columns of one head. Whatever is not masked, grouped and on a CPU is
    left to transformers."""
    batch, heads, columns, width = query.shape
    groups = key.shape[1]
    plain = attention_mask is None or heads == groups or query.device.type != "cpu"
    if plain or attention_mask is None or more.get("position_bias") is not None or more.get("dropout"):
        found: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **more
        )
        return found
    mask = attention_mask[..., : key.shape[2]]
    if columns == 1 and mask.shape[1] == 1:
        rows = query.view(batch, groups, heads // groups, width)
        out = scaled_dot_product_attention(rows, key, value, attn_mask=mask, scale=scaling).view(batch, heads, 1, width)
    else:
        out = scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling, enable_gqa=True)
    return out.transpose(1, 2).contiguous(), None
