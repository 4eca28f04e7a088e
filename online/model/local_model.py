"""The local model: one base in memory with named LoRA adapters.

Prompts and responses are token ids. A row of a batch is a left-padded prompt followed by a right-padded
response, so that what is predicted sits in the same columns for all rows and only those reach the head.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import jinja2
import torch
from peft import LoraConfig, PeftModel, get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import save_file
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DynamicCache,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.modeling_layers import GradientCheckpointingLayer

from guard.calibration import Conditions
from guard.errors import SirlError
from guard.openings import Tokens
from online.model.attention import attend_so
from online.model.chunked_logits import Logits
from online.model.conditions import TemplateError, declared_quantization, quantization_of, template_of
from online.model.lora_layers import two_products
from online.model.shared_prefix import LaidOut, can_share, lay_out
from online.model.token_budget import MOST, TokenBudget, memory_for, return_freed
from online.model.token_rows import padded

LOADING = (OSError, ValueError, ImportError, RuntimeError, AttributeError, KeyError, TypeError)
"""What transformers raises of files that it cannot make a model of."""


class ModelError(SirlError):
    """A model or adapter that cannot be loaded; one sentence with cause and mend."""


class LocalModel:
    """A base model and its adapters. Outside `with llm.adapter(name)` it is the base alone."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self.model = model.eval().requires_grad_(False)
        attend_so(model)
        model.config.vocab_size = model.config.get_text_config().vocab_size  # one that sees images has it there alone
        self.tokenizer, self.arguments = tokenizer, dict[str, Any]()
        ends = model.generation_config.eos_token_id if model.generation_config else None
        ends = ends if ends is not None else tokenizer.eos_token_id
        self.ends = torch.tensor([ends] if isinstance(ends, int) else list(ends or ()), device=model.device)
        self._peft: PeftModel | None = None
        self._active: str | None = None
        self._base, self._copies = self.model, dict[str, PreTrainedModel]()
        self._plain: bool | None = None
        self._recompute, self._shares = False, can_share(self.model.config)
        self.allow(memory_for(model.device))

    @classmethod
    def load(
        cls,
        model_dir: Path,
        adapter_dir: Path | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        device: str = "auto",
        template: str | None = None,
        arguments: Mapping[str, Any] | None = None,
        memory_gib: float | None = None,
    ) -> LocalModel:
        """Read a model from a local folder; an adapter given with it goes by the name "adapter", and a chat template (its
        text) is used in place of the tokenizer's. device: as torch names it, or "auto": a GPU where there is one.
        arguments: what the template is given beside the messages. memory_gib: what one batch may take beside the weights;
        None: what is sensible on this machine."""
        return_freed()
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        elif device.startswith("cuda") and not torch.cuda.is_available():
            raise ModelError(f"update.device is {device}, and torch finds no GPU: leave it at 'auto', or set 'cpu'.")
        try:
            model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=dtype, local_files_only=True)
            model = model.to(device)  # type: ignore[arg-type]  # transformers wraps `to`, and its type loses `self`
            llm = cls(model, AutoTokenizer.from_pretrained(model_dir, local_files_only=True))
        except torch.OutOfMemoryError:
            mend = "set update.device = 'cpu', or leave it more beside the engine (--gpu-memory-utilization)"
            raise ModelError(f"The model at {model_dir} does not fit the memory of {device}: {mend}.") from None
        except LOADING as error:  # a quantised one may need a package more, or have a configuration that is unknown here
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ModelError(f"The model at {model_dir} cannot be loaded: {reason}") from error
        if (method := declared_quantization(model_dir)) and not getattr(model, "is_quantized", False):
            raise ModelError(
                f"The weights at {model_dir} are quantised ({method}) and cannot be computed so here, so what is measured "
                "would not be what serves: take the model before it was quantised."
            )
        llm.allow(memory_for(llm.model.device, memory_gib))
        if template is not None:
            llm.tokenizer.chat_template = template
        llm.arguments = dict(arguments or {})
        if adapter_dir is not None:
            llm.load_adapter("adapter", adapter_dir)
        return llm

    @property
    def conditions(self) -> Conditions:
        """What the base runs under."""
        declared = getattr(self._base.config, "quantization_config", None)
        dtype = str(self._base.dtype).removeprefix("torch.")
        return Conditions.of(template_of(self.tokenizer), dtype, quantization_of(declared), self.arguments)

    def add_adapter(self, name: str, config: LoraConfig, seed: int = 0) -> list[torch.nn.Parameter]:
        """A fresh adapter, which changes nothing until trained; returns its parameters."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if self._peft is None:  # PEFT keeps its matrices in fp32, whatever the base is in
                self._peft = PeftModel(self.model, config, adapter_name=name)
            else:
                self._peft.add_adapter(name, config)
        two_products(self._peft)
        self._switch(self._active)
        return [p for key, p in self._peft.named_parameters() if f".{name}." in key]

    def add_copy(self, name: str) -> list[torch.nn.Parameter]:
        """All weights once more, to be tuned under this name as an adapter is; returns them. Before any adapter is added."""
        if self._peft is not None:
            raise ValueError("a copy is made of the bare base: add it before adapters")
        # In fp32, where a small step is not rounded away; it computes in the base's precision.
        self._copies[name] = copy.deepcopy(self._base).float().requires_grad_(True)
        device = self.model.device
        if device.type == "cuda":  # a gradient and AdamW's two moments are to come
            self.allow(min(self.memory, memory_for(device, spoken_for=3 * 4 * self.size)))
        return list(self._copies[name].parameters())

    def load_adapter(self, name: str, path: Path) -> None:
        """A PEFT adapter from safetensors."""
        where = str(self.model.device)  # PEFT would go by a GPU that the model is not on
        try:
            if self._peft is None:
                self._peft = PeftModel.from_pretrained(
                    self.model, path, adapter_name=name, autocast_adapter_dtype=False, torch_device=where
                )
            else:
                self._peft.load_adapter(path, name, torch_device=where, autocast_adapter_dtype=False)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise ModelError(f"The adapter at {path} does not fit: {str(error).splitlines()[0]}") from error
        two_products(self._peft)
        self._switch(self._active)

    def drop_adapter(self, name: str) -> None:
        """Forget an adapter."""
        assert self._peft is not None, "there is one"
        self._peft.delete_adapter(name)
        self._switch(self._active)

    def save_adapter(self, name: str, path: Path) -> None:
        """Write `adapter_model.safetensors` and `adapter_config.json`, as PEFT and vLLM read them; or a whole copy."""
        if name in self._copies:
            self._copies[name].save_pretrained(path)
            self.tokenizer.save_pretrained(path)
            return
        assert self._peft is not None, "what is no copy is an adapter of PEFT's"
        state = get_peft_model_state_dict(self._peft, adapter_name=name)
        save_file(
            {key: value.detach().cpu().contiguous() for key, value in state.items()},
            path / "adapter_model.safetensors",
        )
        config = self._peft.peft_config[name]
        assert isinstance(config, LoraConfig) and config.target_modules, "an adapter is LoRA, its modules named"
        config.inference_mode, config.target_modules = True, sorted(config.target_modules)
        config.save_pretrained(str(path))

    @contextmanager
    def adapter(self, name: str | None) -> Iterator[LocalModel]:
        """Within it the model answers with this adapter; None is the base."""
        before = self._active
        self._switch(name)
        try:
            yield self
        finally:
            self._switch(before)

    @property
    def bare(self) -> bool:
        """Whether it answers as the base does, without an adapter."""
        return self._active is None

    def _switch(self, name: str | None) -> None:
        self.model = self._copies.get(name or "", self._base)
        if self._peft is not None and name not in self._copies:
            for layer in (m for m in self.model.modules() if isinstance(m, BaseTunerLayer)):
                if name is not None:
                    layer.set_adapter(name)
                layer.enable_adapters(name is not None)
        self._active = name

    def render(self, messages: Sequence[dict[str, str]]) -> Tokens:
        """Token ids of a conversation, up to where the assistant's answer begins. Raises TemplateError where the model has
        no chat template, or one that does not take the conversation."""
        if template_of(self.tokenizer) is None:
            name = self.tokenizer.name_or_path
            raise TemplateError(f"The model at {name} has no chat template: give one with --chat-template FILE.")
        try:
            options = {**self.arguments, "add_generation_prompt": True, "return_dict": False}
            ids = self.tokenizer.apply_chat_template(list(messages), **options)
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise TemplateError(f"The chat template fails ({reason}): give another with --chat-template FILE.") from error
        return tuple(ids)

    def text(self, tokens: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True))

    def response_logits(
        self, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]]
    ) -> tuple[Logits, Tensor, Tensor]:
        """Logits that predict each response token (batch, T, vocabulary), tokens and mask (batch, T)."""
        laid = self.laid_out(prompts)
        tokens, real = padded(responses, laid.ids.device, left=False)
        ids, mask = torch.cat([laid.ids, tokens], 1), torch.cat([laid.mask, real], 1)
        read = self.last_logits(ids, mask, laid.places(mask), keep=tokens.shape[1] + 1, cache=laid.cache)
        return Logits(read.states[:, :-1], read.head, read.vocabulary), tokens, real.bool()

    def last_logits(
        self, ids: Tensor, mask: Tensor, places: Tensor, *, keep: int, cache: DynamicCache | None = None
    ) -> Logits:
        """Those of the last `keep` columns, (batch, keep, vocabulary), as what they are read from. cache: of the columns of
        the mask that come before `ids`; it goes on."""
        width = self.model.config.vocab_size
        if not self._head_is_plain():
            inputs = {"attention_mask": mask, "position_ids": places, "past_key_values": cache, "logits_to_keep": keep}
            with self._recomputing(), self._precision():
                logits = self.model(input_ids=ids, **inputs, use_cache=cache is not None).logits
            return Logits(logits.float(), _same, width)
        states = self.hidden_states(ids, mask, places, cache)
        head, precision = self.model.get_output_embeddings(), self._precision()

        def read(rows: Tensor) -> Tensor:
            with precision:
                logits: Tensor = head(rows)
            return logits

        return Logits(states[:, -keep:], read, width)

    def hidden_states(self, ids: Tensor, mask: Tensor, places: Tensor, cache: DynamicCache | None) -> Tensor:
        """Hidden states that the head reads, (batch, columns, hidden)."""
        inputs = {"attention_mask": mask, "position_ids": places, "past_key_values": cache}
        with self._recomputing(), self._precision():
            states: Tensor = self.model.get_decoder()(input_ids=ids, **inputs, use_cache=cache is not None).last_hidden_state
        return states

    def _precision(self) -> torch.autocast:
        """The base's precision, for a copy too."""
        kept, base = self.model.dtype, self._base.dtype
        return torch.autocast(self.model.device.type, dtype=base, enabled=kept != base)

    @torch.no_grad()
    def _head_is_plain(self) -> bool:
        """Whether the model's logits are its head's output and nothing more: some scale or cap them."""
        if self._plain is None:
            ids = torch.tensor([[0, 1]], device=self.model.device)
            states = self.model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
            whole = self.model(input_ids=ids, use_cache=False).logits
            self._plain = torch.equal(self.model.get_output_embeddings()(states), whole)
        return self._plain

    @cached_property
    def size(self) -> int:
        """Parameters of the base, adapters left out."""
        return sum(p.numel() for key, p in self._base.named_parameters() if "lora_" not in key)

    def allow(self, memory: int) -> None:
        """Let one batch take so many bytes beside the weights."""
        most, each = MOST.get(self.model.device.type, MOST["cpu"]), self._base.dtype.itemsize
        self.memory = memory
        self.budget = TokenBudget.of(self._base.config, memory, cached=each, recompute=self._recompute, most=most)

    def batches(self, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]]) -> list[list[int]]:
        """Indices of rows, in batches that `response_logits` has room for."""
        beside = self.held_logits(max(map(len, responses), default=0) + 1)
        return self.budget.now().batches([(len(p), len(r)) for p, r in zip(prompts, responses, strict=True)], beside)

    def held_logits(self, columns: int) -> int:
        """Tokens that the logits of so many columns of a row count as: none where `per_token` reads them piece by piece."""
        return 0 if self._head_is_plain() else columns * self.budget.now().logits

    def recompute_layers(self) -> None:
        """From here on a gradient computes each layer again instead of keeping what it needs of it. Before `add_copy`."""
        self._base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        self._recompute = True
        self.allow(self.memory)

    @contextmanager
    def _recomputing(self) -> Iterator[None]:
        """transformers does so in training mode only, which we are never in, for it would drop out and forget caches."""
        wanted = self._recompute and torch.is_grad_enabled()
        layers = [m for m in self.model.modules() if wanted and isinstance(m, GradientCheckpointingLayer)]
        for layer in layers:
            layer.training = True
        try:
            yield
        finally:
            for layer in layers:
                layer.training = False

    def forward(self, ids: Tensor, mask: Tensor, places: Tensor, *, keep: int, cache: DynamicCache | None = None) -> Tensor:
        """Logits of the last `keep` columns, (batch, keep, vocabulary), in fp32."""
        read = self.last_logits(ids, mask, places, keep=keep, cache=cache)
        # As rows of their own: of a slice torch would make a product for each row, and copy the head for it.
        return Logits(read.states.contiguous(), read.head, read.vocabulary).whole()

    def laid_out(self, prompts: Sequence[Sequence[int]], rest: int = 1) -> LaidOut:
        """Prompts as a batch, what they share passed once, but for the `rest` of tokens at their ends: not where layers are
        computed again, which takes no cache."""
        alone = self._recompute and torch.is_grad_enabled()
        return lay_out(prompts, self.model.device, self.size, self._cached if self._shares and not alone else None, rest)

    def _cached(self, ids: Tensor, mask: Tensor, places: Tensor) -> DynamicCache:
        cache = DynamicCache(config=self.model.config)
        self.hidden_states(ids, mask, places, cache)
        return cache


def _same(logits: Tensor) -> Tensor:
    return logits
