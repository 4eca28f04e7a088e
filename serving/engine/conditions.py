"""Under which conditions vLLM serves a model, as a calibration must have been made for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from guard.calibration import Conditions
from online.model.conditions import quantization_of

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM


def conditions_of(engine: AsyncLLM, template: str | None, arguments: Mapping[str, Any] | None = None) -> Conditions:
    """What an engine serves under; `template` is the text of the operator's own, `arguments` what it is given.
    Tokenizers that write prompts without a template (Mistral's) have none to tell of."""
    from vllm.renderers.hf import resolve_chat_template

    config, tokenizer = engine.model_config, engine.get_tokenizer()
    if hasattr(tokenizer, "get_chat_template"):
        template = resolve_chat_template(tokenizer, template, None, model_config=config)
    # What the files declare goes by that name: vLLM's own tells the kernel too (gptq_marlin).
    quantization = quantization_of(config.model_arch_config.quantization_config) or config.quantization
    return Conditions.of(template, str(config.dtype).removeprefix("torch."), quantization, arguments)
