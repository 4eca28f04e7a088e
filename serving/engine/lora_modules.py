"""The operator's own LoRA modules (`--lora-modules`), which no rule judges: no calibration is theirs."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from vllm.exceptions import VLLMValidationError
from vllm.lora.request import LoRARequest

from serving.request.exchange import Exchange, current


class Modules(dict[str, LoRARequest]):
    """vLLM's table of them by name. Each of its routes looks one up here before it answers, so that a request that is to be
    guarded is refused before a stream begins; /v1/responses asks the engine when it has."""

    def __init__(self, modules: Mapping[str, LoRARequest], exempt: Collection[str]) -> None:
        super().__init__(modules)
        self.exempt = exempt

    def __getitem__(self, name: str) -> LoRARequest:
        if (request := current.get()) is not None:
            refuse_uncalibrated(request, name, self.exempt)
        return super().__getitem__(name)


def refuse_uncalibrated(request: Exchange, name: str, exempt: Collection[str]) -> None:
    """Raise VLLMValidationError where a request that is to be guarded names a module that is not exempt."""
    if request.policy.enforces and not request.internal and name not in exempt:
        raise VLLMValidationError(
            f"The LoRA module {name} is not calibrated, and this request is to be guarded: ask another model, or have the "
            "operator name the module in guard.exempt_modules."
        )
