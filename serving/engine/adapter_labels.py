"""Adapter labels: the names of adapters that vLLM's own metrics may show."""

from __future__ import annotations

from vllm.v1.metrics.stats import LoRARequestStates

VERSION, TRIAL = "sirl-v", "sirl-trial-"
"""How the LoRA names of versions and of adapters in training begin; the number follows, and none is used twice."""
LABEL = "sirl"
"""All versions together; sirl_active_adapter_info says which one serves."""


def label(name: str | None) -> str | None:
    """A LoRA name as a label's value: an operator's module as it is, a version as one of ours, in training not at all."""
    if name is None or name.startswith(TRIAL):
        return None
    return LABEL if name.startswith(VERSION) else name


class BoundedStates(LoRARequestStates):
    """vLLM's count of requests by adapter, whose names become labels of vllm:lora_requests_info and stay for ever (vLLM
    #13303): every batch of rollouts and every swap would add some to /metrics."""

    def _request_update(self, req_id: str, lora_name: str | None, waiting: bool, running: bool) -> None:
        super()._request_update(req_id, label(lora_name), waiting, running)
