"""The residual stream of a model in vLLM: what flows from one decoder layer to the next, at every token of a step.

Two ways lead to it. Most architectures hand out auxiliary hidden states, made for drafters (EAGLE-3): vLLM's own forward
returns them, through compilation and CUDA graphs. What vLLM calls layer l there is the stream after l decoder layers, the
residual added, which is transformers' `hidden_states[l]` (model_executor/models/interfaces.py, `_maybe_add_hidden_state`;
the last is not normed). Elsewhere a forward hook on the layer takes it, in an engine that neither compiles nor captures.

A compiled or captured forward returns what it returned when it was traced. So the layers must be known before: they come
with the engine's configuration, whose hash is part of the key of vLLM's compile cache.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from vllm.config import CompilationMode, CUDAGraphMode
from vllm.model_executor.layers.layernorm import GemmaRMSNorm, RMSNorm
from vllm.model_executor.models.interfaces import supports_eagle3

LAYERS = "sirl_sense_layers"
"""Key in vLLM's `additional_config`: the layers that are wanted from the start."""
log = logging.getLogger("sirl")


class ResidualStream:
    """The stream of one runner's model after some of its decoder layers, numbered from 1 on."""

    def __init__(self, runner) -> None:
        """`runner` has loaded its model, and has not run it yet."""
        self.runner, self.config = runner, runner.vllm_config
        self.layers: tuple[int, ...] = ()
        self.depth = self.config.model_config.hf_text_config.num_hidden_layers
        self.drafted = runner.use_aux_hidden_state_outputs
        self.hands_out, self.name = supports_eagle3(runner.get_model()), type(runner.get_model()).__name__
        self.hooked: dict[int, torch.Tensor] = {}
        """What hooks took in the step under way, where the model hands out no auxiliary hidden states."""
        compiled = self.config.compilation_config
        self.eager = compiled.mode == CompilationMode.NONE and compiled.cudagraph_mode == CUDAGraphMode.NONE
        self.settled = False
        """Whether the forward pass is what it will be to the end."""
        if wanted := [layer for layer in self.config.additional_config.get(LAYERS, ()) if layer <= self.depth]:
            self.want(wanted)
        self.settled = not self.eager

    def want(self, layers: Sequence[int]) -> str | None:
        """Have the stream after these layers too; returns why that cannot be, in a sentence, or None where it can."""
        if missing := [layer for layer in layers if not 1 <= layer <= self.depth]:
            return f"The harm sense reads layer {missing[0]}, and the model has {self.depth}: run `sirl calibrate`."
        if set(layers) <= set(self.layers):
            return None
        if reason := self.refusal():
            return reason
        if self.settled:
            return (
                "The engine was started before the calibration that reads its layers was there, and has compiled its model "
                "without them: start it again."
            )
        wanted = tuple(sorted({*self.layers, *layers}))
        if self.hands_out:
            try:
                self.runner.get_model().set_aux_hidden_state_layers(wanted)
            except (AssertionError, AttributeError) as error:  # a model around a language model that has not what it says
                return f"vLLM's {self.name} hands out no hidden states ({error}): no harm sense is read."
            self.runner.use_aux_hidden_state_outputs = True  # else the runner takes the pair that comes for one tensor
        else:
            found = decoder_layers(self.runner.get_model(), self.depth)
            if found is None:
                return f"vLLM's {self.name} hands out no hidden states and its layers were not found: no harm sense is read."
            for layer in set(wanted) - set(self.layers):
                Hook(found, layer, self.hooked)
        self.layers = wanted
        return None

    def refusal(self) -> str | None:
        """Why this engine's stream cannot be read at all, in a sentence; None where it can."""
        parallel = self.config.parallel_config
        so = "so the harm sense is not read: leave it out."
        if self.drafted:
            return f"The drafter of --speculative-config takes the model's hidden states for itself, {so}"
        if parallel.pipeline_parallel_size > 1:
            return f"--pipeline-parallel-size spreads the model's layers over processes, {so}"
        if parallel.prefill_context_parallel_size > 1:
            return f"--prefill-context-parallel-size spreads a prompt's tokens over processes, {so}"
        if parallel.use_ubatching:
            return f"--enable-dbo cuts a step's tokens into parts, {so}"
        if not (self.eager or self.hands_out):
            return f"vLLM's {self.name} hands out no hidden states once it is compiled: give --enforce-eager."
        return None

    def take(self, auxiliary: Sequence[torch.Tensor] | None, tokens: int) -> Mapping[int, torch.Tensor]:
        """The stream of the step by layer, each [tokens or more, hidden]; nothing of a layer that has fewer, for its rows
        would be others'. `auxiliary`: what the runner kept of the forward pass."""
        taken = dict(self.hooked)
        self.hooked.clear()
        if auxiliary is not None and len(auxiliary) == len(self.layers):
            taken = dict(zip(self.layers, auxiliary, strict=True))
        return {layer: states for layer, states in taken.items() if len(states) >= tokens}


class Hook:
    """Takes the stream after one decoder layer into `taken`.

    A layer that returns one tensor returns the stream. One that returns two leaves their sum to the next norm, where that is
    vLLM's own, which adds what it is given; elsewhere the second may be anything, and nothing is taken.
    """

    def __init__(self, found: tuple[nn.Module, nn.ModuleList], layer: int, taken: dict[int, torch.Tensor]) -> None:
        holder, layers = found
        self.layer, self.taken = layer, taken
        self.adds = any(isinstance(part, RMSNorm | GemmaRMSNorm) for part in holder.children())
        self.said = False
        layers[layer - 1].register_forward_hook(self)

    def __call__(self, module: nn.Module, arguments: Any, output: Any) -> None:
        """Copied, for what follows may write over it in place."""
        if isinstance(output, torch.Tensor):
            self.taken[self.layer] = output.clone()
        elif self.adds and isinstance(output, tuple) and len(output) == 2 and all(map(torch.is_tensor, output)):
            self.taken[self.layer] = output[0] + output[1]
        elif not self.said:
            self.said = True
            log.warning("%s does not return the residual stream, so the harm sense is not read.", type(module).__name__)


def decoder_layers(model: Any, depth: int) -> tuple[nn.Module, nn.ModuleList] | None:
    """The one list of `depth` modules in the language model, with the module that holds it; None where there are others."""
    language = model.get_language_model() if hasattr(model, "get_language_model") else model
    found = [
        (holder, part)
        for holder in language.modules()
        for part in holder.children()
        if isinstance(part, nn.ModuleList) and len(part) == depth
    ]
    return found[0] if len(found) == 1 else None
