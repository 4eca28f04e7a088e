"""The worker extension: it installs the probe in every worker, and on CPUs the grouped products of LoRA.

vLLM mixes the class into its own (`--worker-extension-cls`), and the API process calls its methods over vLLM's own RPC.
Nothing is patched at import: methods are wrapped of the one model-runner object that is found, and of its LoRA wrapper.
"""

from __future__ import annotations

from guard.openings import Openings
from serving.engine.lora_products import group_products
from serving.engine.probe import Probe
from serving.engine.probe_v2 import ProbeV2
from serving.engine.version import EngineError, require_supported

PROBES = {
    Probe: ("sample_tokens", "_sample", "execute_model_state", "input_batch", "discard_request_mask"),
    ProbeV2: ("add_requests", "sample", "sampler", "req_states", "num_speculative_steps"),
}
"""The probes, each with what it needs of a runner."""


class WorkerExtension:
    """What the API process may ask of a worker, over vLLM's collective RPC."""

    def sirl_install(self) -> dict:
        """Wrap this worker's model runner once; returns which runner and version it found."""
        name, version = require_supported()
        runner = self.model_runner
        kind = f"{type(runner).__module__}.{type(runner).__qualname__}"
        if getattr(self, "sirl_probe", None) is None:
            known = next((probe for probe, needs in PROBES.items() if all(hasattr(runner, part) for part in needs)), None)
            if known is None:
                raise EngineError(f"The guard has no probe for the runner {kind}: set VLLM_USE_V2_MODEL_RUNNER=0.")
            self.sirl_probe = known(runner)
        lora = group_products(runner)
        return {"engine": f"{name} {version}", "runner": kind, "device": str(runner.device), "lora": lora}

    def sirl_cleanse(self) -> None:
        """Put noughts where the KV cache holds numbers that are none. A freed block keeps what was in it, and vLLM's CPU
        attention multiplies what it masks by 0, which leaves a NaN a NaN: one broken response breaks those of others."""
        for cache in self.model_runner.kv_caches:
            if cache.is_floating_point():
                cache.nan_to_num_(0.0, 0.0, 0.0)

    def sirl_openings(self, adapter: int, openings: dict | None) -> None:
        """Set (or with None forget) the opening tree of a LoRA id; 0 is the base model."""
        self.sirl_probe.trees.set(adapter, None if openings is None else Openings.from_json(openings))
