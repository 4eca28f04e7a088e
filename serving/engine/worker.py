"""The worker extension: it installs the probe in every worker, and on CPUs the grouped products of LoRA.

vLLM mixes the class into its own (`--worker-extension-cls`), and the API process calls its methods over vLLM's own RPC.
Nothing is patched at import: methods are wrapped of the one model-runner object that is found, and of its LoRA wrapper.
"""

from __future__ import annotations

from functools import partial

from guard.openings import Openings
from guard.sense import Sense
from serving.engine.lora_products import group_products
from serving.engine.probe import Probe
from serving.engine.probe_v2 import ProbeV2
from serving.engine.residual_stream import ResidualStream
from serving.engine.version import EngineError, require_supported

PROBES = {
    Probe: ("sample_tokens", "_sample", "execute_model_state", "input_batch", "discard_request_mask"),
    ProbeV2: ("add_requests", "sample", "sample_tokens", "sampler", "req_states", "num_speculative_steps"),
}
"""The probes, each with what it needs of a runner."""


class WorkerExtension:
    """What the API process may ask of a worker, over vLLM's collective RPC."""

    @property
    def model_runner(self):
        """The runner that the worker made. A property, so that we see it made: the layers whose residual stream is wanted
        must be known when the model is there and not yet compiled, and nothing of ours is called between the two."""
        return self.__dict__["model_runner"]

    @model_runner.setter
    def model_runner(self, runner) -> None:
        self.__dict__["model_runner"] = runner
        if hasattr(runner, "use_aux_hidden_state_outputs"):
            runner.load_model = partial(self._sirl_load, runner.load_model)

    def _sirl_load(self, load, *args, **kwargs) -> None:
        load(*args, **kwargs)
        self.sirl_stream = ResidualStream(self.model_runner)

    def sirl_install(self) -> dict:
        """Wrap this worker's model runner once; returns which runner and version it found."""
        name, version = require_supported()
        runner = self.model_runner
        kind = f"{type(runner).__module__}.{type(runner).__qualname__}"
        if getattr(self, "sirl_probe", None) is None:
            known = next((probe for probe, needs in PROBES.items() if all(hasattr(runner, part) for part in needs)), None)
            if known is None:
                raise EngineError(f"The guard has no probe for the runner {kind}: set VLLM_USE_V2_MODEL_RUNNER=0.")
            self.sirl_probe = known(runner, self.sirl_stream)
        lora = group_products(runner)
        return {"engine": f"{name} {version}", "runner": kind, "device": str(runner.device), "lora": lora}

    def sirl_cleanse(self) -> None:
        """Put noughts where the KV cache holds numbers that are none. A freed block keeps what was in it, and vLLM's CPU
        attention multiplies what it masks by 0, which leaves a NaN a NaN: one broken response breaks those of others."""
        for cache in self.model_runner.kv_caches:
            if cache.is_floating_point():
                cache.nan_to_num_(0.0, 0.0, 0.0)

    def sirl_sense(self, adapter: int, sense: dict | None) -> str | None:
        """Set (or with None forget) the harm sense of a LoRA id; returns why it cannot be read, in a sentence, or None."""
        read = None if sense is None else Sense.from_json(sense)
        reason = None
        if read is not None:
            hidden = self.model_runner.model_config.hf_text_config.hidden_size
            other = f"The harm sense reads {read.hidden} numbers a layer, and the model has {hidden}: run `sirl calibrate`."
            reason = other if read.hidden != hidden else self.sirl_stream.want(read.layers)
        self.sirl_probe.senses.set(adapter, None if reason else read)
        return reason

    def sirl_openings(self, adapter: int, openings: dict | None) -> None:
        """Set (or with None forget) the opening tree of a LoRA id; 0 is the base model."""
        self.sirl_probe.trees.set(adapter, None if openings is None else Openings.from_json(openings))
