"""Under which conditions vLLM serves a model, as a calibration must have been made for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guard.calibration import Conditions
from online.conditions import quantization_of

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM


def served(engine: AsyncLLM, chat_template: str | None) -> Conditions:
    """What an engine serves under; `chat_template` is the operator's own, as vLLM takes it. Tokenizers that write prompts
    without a template (Mistral's) have none to tell of."""
    from vllm.renderers.chat_utils import load_chat_template
    from vllm.renderers.hf import resolve_chat_template

    config, tokenizer = engine.model_config, engine.get_tokenizer()
    template = load_chat_template(chat_template)
    if hasattr(tokenizer, "get_chat_template"):
        template = resolve_chat_template(tokenizer, template, None, model_config=config)
    # What the files declare goes by that name: vLLM's own tells the kernel too (gptq_marlin).
    quantization = quantization_of(config.model_arch_config.quantization_config) or config.quantization
    return Conditions.of(template, str(config.dtype).removeprefix("torch."), quantization)
