"""Attention of grouped queries on CPUs, whose keys and values are not copied for every query head that reads them.

transformers repeats them as soon as there is a mask. Of a model with seven query heads to a key head a decoding step then
copies more than it computes. The products are the same.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "grouped_sdpa"
"""What transformers calls it."""


def group_queries(model: PreTrainedModel) -> None:
    """Have a model on a CPU attend so, where it would by torch's own function."""
    if model.device.type == "cpu" and model.config._attn_implementation == "sdpa":
        AttentionInterface.register(NAME, attention)
        AttentionMaskInterface.register(NAME, sdpa_mask)
        model.set_attn_implementation(NAME)


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
    Heads of a group that read one column are taken for columns of one head. Whatever is not masked and grouped is left to
    transformers."""
    batch, heads, columns, width = query.shape
    groups = key.shape[1]
    if attention_mask is None or heads == groups or more.get("position_bias") is not None or more.get("dropout"):
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
