"""A policy: one base model in memory with named LoRA adapters, and everything the learner asks of it.

Prompts and responses are token ids. A row of a batch is a left-padded prompt followed by a right-padded
response, so that what is predicted sits in the same columns for all rows and only those reach the head.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

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
from guard.openings import Openings, Tokens
from online import OnlineError
from online.conditions import TemplateError, quantization_of, template_of
from online.entropy import entropy_and_logprob
from online.per_token import Logits
from online.rows import draw, padded, pick, positions

_LOGITS = 1 << 24
"""Logits one chunk of rows may hold (64 MiB in fp32)."""
_ROWS = 64
"""Rows of one chunk at most: past this a CPU gains nothing and padding costs more."""


class PolicyError(OnlineError):
    """A model or adapter that cannot be loaded; one sentence with cause and mend."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One response: index of its prompt, token ids with the end token, exact entropy and log-probability in nats of each."""

    prompt: int
    tokens: Tokens
    entropies: tuple[float, ...]
    logprobs: tuple[float, ...]

    @property
    def entropy(self) -> float:
        """Mean token entropy in nats; its negative is the reward (arXiv 2510.01088)."""
        return math.fsum(self.entropies) / len(self.entropies)

    @property
    def logprob(self) -> float:
        """Mean log-probability of its tokens in nats: minus the logarithm of its perplexity."""
        return math.fsum(self.logprobs) / len(self.logprobs)


class Policy:
    """A base model and its adapters. Outside `with policy.adapter(name)` it is the base alone."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        ends = model.generation_config.eos_token_id if model.generation_config else None
        ends = ends if ends is not None else tokenizer.eos_token_id
        self.ends = torch.tensor([ends] if isinstance(ends, int) else list(ends or ()), device=model.device)
        self._peft: PeftModel | None = None
        self._active: str | None = None
        self._base, self._copies = self.model, dict[str, PreTrainedModel]()
        self._plain: bool | None = None
        self._recompute = False

    @classmethod
    def load(
        cls,
        model_dir: Path,
        adapter_dir: Path | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
        template: str | None = None,
    ) -> Policy:
        """Read a model from a local folder; an adapter given with it goes by the name "adapter", and a chat template (its
        text) is used in place of the tokenizer's."""
        try:
            model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=dtype, local_files_only=True).to(device)
            policy = cls(model, AutoTokenizer.from_pretrained(model_dir, local_files_only=True))
        except (OSError, ValueError, ImportError) as error:  # a quantised one may need a package more
            raise PolicyError(f"The model at {model_dir} cannot be loaded: {str(error).splitlines()[0]}") from error
        if template is not None:
            policy.tokenizer.chat_template = template
        if adapter_dir is not None:
            policy.load_adapter("adapter", adapter_dir)
        return policy

    @property
    def conditions(self) -> Conditions:
        """What the base runs under."""
        declared = getattr(self._base.config, "quantization_config", None)
        dtype = str(self._base.dtype).removeprefix("torch.")
        return Conditions.of(template_of(self.tokenizer), dtype, quantization_of(declared))

    def add_adapter(self, name: str, config: LoraConfig, seed: int = 0) -> list[torch.nn.Parameter]:
        """A fresh adapter, which changes nothing until trained; returns its parameters."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if self._peft is None:  # PEFT keeps its matrices in fp32, whatever the base is in
                self._peft = PeftModel(self.model, config, adapter_name=name)
            else:
                self._peft.add_adapter(name, config)
        self._switch(self._active)
        return [p for key, p in self._peft.named_parameters() if f".{name}." in key]

    def add_copy(self, name: str) -> list[torch.nn.Parameter]:
        """All weights once more, to be tuned under this name as an adapter is; returns them. Before any adapter is added."""
        if self._peft is not None:
            raise ValueError("a copy is made of the bare base: add it before adapters")
        # In fp32, where a small step is not rounded away; it computes in the base's precision.
        self._copies[name] = copy.deepcopy(self._base).float().requires_grad_(True)
        return list(self._copies[name].parameters())

    def load_adapter(self, name: str, path: Path) -> None:
        """A PEFT adapter from safetensors."""
        try:
            if self._peft is None:
                self._peft = PeftModel.from_pretrained(self.model, path, adapter_name=name, autocast_adapter_dtype=False)
            else:
                self._peft.load_adapter(path, adapter_name=name, autocast_adapter_dtype=False)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise PolicyError(f"The adapter at {path} does not fit: {str(error).splitlines()[0]}") from error
        self._switch(self._active)

    def save_adapter(self, name: str, path: Path) -> None:
        """Write `adapter_model.safetensors` and `adapter_config.json`, as PEFT and vLLM read them; or a whole copy."""
        if name in self._copies:
            self._copies[name].save_pretrained(path)
            self.tokenizer.save_pretrained(path)
            return
        state = get_peft_model_state_dict(self._peft, adapter_name=name)
        save_file(
            {key: value.detach().cpu().contiguous() for key, value in state.items()},
            path / "adapter_model.safetensors",
        )
        config = self._peft.peft_config[name]
        config.inference_mode, config.target_modules = True, sorted(config.target_modules)
        config.save_pretrained(path)

    @contextmanager
    def adapter(self, name: str | None) -> Iterator[Policy]:
        """Within it the policy answers with this adapter; None is the base."""
        before = self._active
        self._switch(name)
        try:
            yield self
        finally:
            self._switch(before)

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
            ids = self.tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, return_dict=False)
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise TemplateError(f"The chat template fails ({reason}): give another with --chat-template FILE.") from error
        return tuple(ids)

    def text(self, tokens: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True))

    @torch.no_grad()
    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        n: int = 1,
        *,
        temperature: float = 1.0,
        max_tokens: int = 128,
        seed: int = 0,
        rows: int = 256,
    ) -> list[Sample]:
        """`n` responses to each prompt, in order, from the raw distribution (temperature 0: greedy).

        Every token is drawn by one uniform number, fixed by seed, prompt and position before any model
        runs: two policies given one seed share their luck (common random numbers), which sharpens paired
        comparisons. No other sampling setting exists here, and the model's own are not read.
        """
        generator = torch.Generator().manual_seed(seed)
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        found: dict[int, list[Sample]] = {}
        each = max(1, rows // n)
        for start in range(0, len(order), each):
            chunk = order[start : start + each]
            luck = torch.rand(len(chunk) * n, max_tokens, generator=generator, dtype=torch.float64)
            for row, drawn in enumerate(self._decode([prompts[i] for i in chunk], n, temperature, luck)):
                index = chunk[row // n]
                found.setdefault(index, []).append(Sample(index, *drawn))
        return [sample for index in range(len(prompts)) for sample in found[index]]

    def _decode(
        self, prompts: Sequence[Sequence[int]], n: int, temperature: float, luck: Tensor
    ) -> Iterator[tuple[Tokens, tuple[float, ...], tuple[float, ...]]]:
        """(tokens, entropies, log-probabilities) of each row. One prefill a prompt, its cache shared by `n` rows; rows that
        have ended are let go."""
        ids, mask = self._left_padded(prompts)
        cache = DynamicCache(config=self.model.config)
        logits = self._forward(ids, mask, positions(mask), keep=1, cache=cache)[:, -1].repeat_interleave(n, 0)
        cache.batch_repeat_interleave(n)
        mask = mask.repeat_interleave(n, 0)
        luck = luck.to(logits.device)
        rows = torch.arange(len(mask), device=mask.device)
        tokens = torch.zeros(luck.shape, dtype=torch.long, device=mask.device)
        entropies, logprobs = torch.zeros(2, *luck.shape, device=mask.device)
        lengths = torch.zeros(len(rows), dtype=torch.long, device=mask.device)
        for at in range(luck.shape[1]):
            drawn = draw(logits, luck[rows, at], temperature)
            tokens[rows, at] = drawn
            entropies[rows, at], logprobs[rows, at] = entropy_and_logprob(logits, drawn)
            lengths[rows] = at + 1
            alive = (~torch.isin(drawn, self.ends)).nonzero()[:, 0]
            if not len(alive) or at + 1 == luck.shape[1]:
                break
            if len(alive) < len(rows):
                cache.batch_select_indices(alive)
                rows, mask, drawn = rows[alive], mask[alive], drawn[alive]
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
            logits = self._forward(drawn[:, None], mask, mask.sum(1, keepdim=True) - 1, keep=1, cache=cache)[:, -1]
        for row, length in enumerate(lengths.tolist()):
            said, hesitation, likely = (tuple(kept[row, :length].tolist()) for kept in (tokens, entropies, logprobs))
            yield said, hesitation, likely

    def response_logits(
        self, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]]
    ) -> tuple[Logits, Tensor, Tensor]:
        """Logits that predict each response token (batch, T, vocabulary), tokens and mask (batch, T)."""
        ids, mask = self._left_padded(prompts)
        tokens, real = padded(responses, ids.device, left=False)
        ids, mask = torch.cat([ids, tokens], 1), torch.cat([mask, real], 1)
        places, keep, width = positions(mask), tokens.shape[1] + 1, self.model.config.vocab_size
        if not self._head_is_plain():
            return Logits(self._forward(ids, mask, places, keep=keep)[:, :-1], _same, width), tokens, real.bool()
        with self._recomputing(), self._precision():
            decoder = self.model.get_decoder()
            out = decoder(input_ids=ids, attention_mask=mask, position_ids=places, use_cache=False)
        states, head, precision = out.last_hidden_state[:, -keep:-1], self.model.get_output_embeddings(), self._precision()

        def read(rows: Tensor) -> Tensor:
            with precision:
                return head(rows)

        return Logits(states, read, width), tokens, real.bool()

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

    def recompute_layers(self) -> None:
        """From here on a gradient computes each layer again instead of keeping what it needs of it. Before `add_copy`."""
        self._base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        self._recompute = True

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

    def path_logprobs(self, prompts: Sequence[Sequence[int]], paths: Sequence[Tokens]) -> Tensor:
        """log P(response opens with path | prompt), shape (prompts, paths), exact and differentiable.

        One forward pass a prompt, however the paths branch: their prefixes are laid out once, as a tree,
        behind the prompt, and a mask lets each see the prompt and its own ancestors (tree attention, arXiv
        2305.09781).
        """
        nodes = sorted({path[:k] for path in paths for k in range(1, len(path))}, key=lambda p: (len(p), p))
        column = {(): 0} | {node: i + 1 for i, node in enumerate(nodes)}
        depth = max(map(len, paths), default=1)
        steps = [[(column[p[:k]], p[k], True) if k < len(p) else (0, 0, False) for k in range(depth)] for p in paths]
        where, token, real = torch.tensor(steps, device=self.model.device).view(-1, depth, 3).unbind(-1)
        results: list[Tensor] = [torch.zeros(0, len(paths), device=self.model.device)]
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        size = max(1, min(_ROWS, _LOGITS // (len(column) * self.model.config.vocab_size)))
        for start in range(0, len(order), size):
            logits = self._tree_logits([prompts[i] for i in order[start : start + size]], nodes)
            taken = pick(logits.flatten(1), where * logits.shape[-1] + token)
            results.append(((taken - pick(logits.logsumexp(-1), where)) * real).sum(-1))
        back = torch.tensor(order, dtype=torch.long, device=self.model.device).argsort()
        return torch.cat(results)[back]

    def tree_mass(self, prompts: Sequence[Sequence[int]], openings: Openings) -> Tensor:
        """Tree mass: exact probability that a response completes one of the openings, shape (prompts,)."""
        return self.path_logprobs(prompts, openings.sequences).exp().sum(-1)

    @torch.no_grad()
    def serving_mass(
        self, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], openings: Openings
    ) -> Tensor:
        """Serving mass of each response, as the worker ships it, shape (responses,).

        sum_c weight_c p(c) over the children of the deepest tree node that the response reached.
        """
        nodes = range(len(openings.prefixes))
        edges = [(node, token, weight) for node in nodes for token, weight in openings.children(node)]
        paths = [(*openings.prefixes[node], token) for node, token, _ in edges]
        logprobs = self.path_logprobs(prompts, [*openings.prefixes, *paths])
        parent = torch.tensor([node for node, *_ in edges], device=logprobs.device)
        weight = torch.tensor([weight for *_, weight in edges], device=logprobs.device)
        share = (logprobs[:, len(nodes) :] - logprobs[:, parent]).exp() * weight
        masses = torch.zeros(len(prompts), len(nodes), device=share.device).index_add_(1, parent, share)
        masses[:, 0] /= self._answering(prompts, openings)
        decided = torch.tensor([_decided(openings, response) for response in responses], device=share.device)
        return masses[torch.arange(len(prompts), device=share.device), decided]

    def first_mass(self, prompts: Sequence[Sequence[int]], openings: Openings) -> Tensor:
        """Serving mass at the first token of a response, shape (prompts,): the tree's root alone, so one cheap pass."""
        tokens, weights = zip(*openings.children(0), strict=True)
        shares = self.path_logprobs(prompts, [(token,) for token in tokens]).exp()
        return shares @ torch.tensor(weights, device=shares.device) / self._answering(prompts, openings)

    def _answering(self, prompts: Sequence[Sequence[int]], openings: Openings) -> Tensor:
        """P(the next token begins the answer | prompt), shape (prompts,): 1 but for a reasoning model's blanks and marks.
        Prompts end where an answer begins, so it is far from 0."""
        if openings.reasoning is None:
            return torch.ones(len(prompts), device=self.model.device)
        aside = self.path_logprobs(prompts, [(token,) for token in sorted(openings.reasoning.aside)]).exp().sum(1)
        return (1 - aside).clamp(min=1e-6)

    def _tree_logits(self, prompts: Sequence[Sequence[int]], nodes: Sequence[Tokens]) -> Tensor:
        """Logits after the prompt and after each node of the tree: (batch, 1 + nodes, vocabulary)."""
        ids, mask = self._left_padded(prompts)
        batch, length = ids.shape
        device = ids.device
        ancestry = torch.tensor([[b[: len(a)] == a for a in nodes] for b in nodes], dtype=torch.bool, device=device)
        visible = torch.ones(batch, length + len(nodes), length + len(nodes), dtype=torch.bool, device=device).tril_()
        visible[:, :, :length] &= mask.bool()[:, None, :]
        visible[:, length:, length:] = ancestry.view(len(nodes), len(nodes))
        visible.diagonal(dim1=1, dim2=2).fill_(True)
        hidden = torch.zeros(visible.shape, dtype=self.model.dtype, device=device)
        hidden.masked_fill_(~visible, torch.finfo(self.model.dtype).min)
        depths = torch.tensor([len(node) for node in nodes], dtype=torch.long, device=device)
        ends = torch.tensor([node[-1] for node in nodes], dtype=torch.long, device=device)
        places = torch.cat([positions(mask), mask.sum(1, keepdim=True) - 1 + depths], 1)
        ids = torch.cat([ids, ends.expand(batch, -1)], 1)
        return self._forward(ids, hidden[:, None], places, keep=1 + len(nodes))

    def _forward(self, ids: Tensor, mask: Tensor, places: Tensor, *, keep: int, cache: DynamicCache | None = None) -> Tensor:
        """Logits of the last `keep` columns, in fp32."""
        with self._recomputing(), self._precision():
            out = self.model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=places,
                past_key_values=cache,
                use_cache=cache is not None,
                logits_to_keep=keep,
            )
        return out.logits.float()

    def _left_padded(self, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        return padded(prompts, self.model.device, left=True)


def _same(logits: Tensor) -> Tensor:
    return logits


def _decided(openings: Openings, response: Sequence[int]) -> int:
    """The deepest inner node of the tree that the response reached."""
    node = deepest = 0
    for token in response:
        if (node := openings.step(node, token)) < 0:
            break
        deepest = node
    return deepest
