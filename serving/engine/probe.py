"""The worker's half of the probe: entropy and refusal mass from the raw logits, carried in the rank word.

vLLM mixes this class into its worker (`--worker-extension-cls`); the API process then calls the two `sirl_*` methods over
vLLM's own RPC. Nothing is patched at import: `sirl_install` wraps two methods of the one model-runner object it finds.

- `sample_tokens` is where raw logits last exist: grammar masks, bias, penalties and temperature are all applied after it
  starts, in place. Custom logits processors would see them too late, and are refused under speculative decoding.
- `_sample` returns the sampled tokens; each token's row of measurements joins it there, in the upper bits of its rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from vllm.v1.outputs import LogprobsTensors

from guard.openings import ROOT, Openings
from guard.word import MASS_NONE, MASS_STEPS, RANK_BITS, RANK_MAX
from online.entropy import entropy_and_mass, token_entropy
from serving.engine.version import EngineError, require_supported

MARK = "sirl"
"""Key in `SamplingParams.extra_args`: the API process's handle of the request."""
ENTROPY_ONLY = "sirl_entropy_only"
"""Key in `SamplingParams.extra_args`: the client asked for no logprobs, so none need be computed."""


@dataclass(frozen=True)
class Tree:
    """One adapter's openings as tensors: for each inner node its child tokens (-1 pads) and their weights."""

    openings: Openings
    children: torch.Tensor  # [nodes, width] int64
    weights: torch.Tensor  # [nodes, width] float32

    @classmethod
    def build(cls, openings: Openings, device: torch.device) -> Tree:
        nodes = [openings.children(node) for node in range(len(openings.prefixes))]
        width = max(map(len, nodes))
        children = torch.full((len(nodes), width), -1, dtype=torch.int64)
        weights = torch.zeros((len(nodes), width), dtype=torch.float32)
        for row, node in enumerate(nodes):
            children[row, : len(node)] = torch.tensor([token for token, _ in node])
            weights[row, : len(node)] = torch.tensor([weight for _, weight in node])
        return cls(openings, children.to(device), weights.to(device))


def pack(entropy: torch.Tensor, mass: torch.Tensor) -> torch.Tensor:
    """The upper 46 bits of each word ([rows] float32 nats, [rows] probabilities or NaN -> [rows] int64); see guard.word."""
    bits = entropy.to(torch.float32).view(torch.int32).to(torch.int64)
    code = torch.where(mass.isnan(), MASS_NONE, (mass.nan_to_num().clamp(0, 1) * MASS_STEPS).round()).to(torch.int64)
    return (bits << 32) | (code << RANK_BITS)


class Probe:
    """Measures every row of logits of one model runner and sends each measurement home with its token."""

    def __init__(self, runner) -> None:
        self.runner = runner
        self.trees: dict[int, Tree] = {}
        self.words: torch.Tensor | None = None
        self.run_sample_tokens, self.run_sample = runner.sample_tokens, runner._sample
        runner.sample_tokens, runner._sample = self.sample_tokens, self.sample

    def sample_tokens(self, grammar_output):
        """Measure the step's logits while they are still raw, then let vLLM sample."""
        state = self.runner.execute_model_state
        wanted = self.runner.input_batch.sampling_metadata.max_num_logprobs is not None
        if state is not None and state.logits is not None and wanted:
            self.words = self.measure(state.logits, state.spec_decode_metadata)
        try:
            return self.run_sample_tokens(grammar_output)
        finally:
            self.words = None

    def measure(self, logits: torch.Tensor, drafts) -> torch.Tensor:
        """[rows, vocabulary] raw logits -> [rows] int64 words."""
        if not self.trees:
            return pack(token_entropy(logits), logits.new_full((len(logits),), torch.nan, dtype=torch.float32))
        children, weights, unknown = self.ways_on(self.positions(drafts))
        entropy, mass = entropy_and_mass(logits, children, weights)
        return pack(entropy, mass.masked_fill(unknown, torch.nan))

    def positions(self, drafts) -> list[tuple[int, Sequence[int]]]:
        """(LoRA id, generated tokens so far) behind each row of logits; only the first few tokens matter to a tree.

        Without speculation there is a row a request. With it, request i has one row before each of its drafted tokens
        and one after the last, and the row's prefix contains the drafts before it.
        """
        batch, depth = self.runner.input_batch, max(tree.openings.depth for tree in self.trees.values())
        ids = None if drafts is None else drafts.draft_token_ids.tolist()
        rows: list[tuple[int, Sequence[int]]] = []
        used = 0
        for i in range(batch.num_reqs):
            lora, start = int(batch.request_lora_mapping[i]), int(batch.num_prompt_tokens[i])
            end = min(int(batch.num_tokens_no_spec[i]), start + depth)
            prefix = batch.token_ids_cpu[i, start:end].tolist() if end > start else []
            rows.append((lora, prefix))
            if ids is not None:
                count = drafts.num_draft_tokens[i]
                rows.extend((lora, [*prefix, *ids[used : used + n + 1]][:depth]) for n in range(count))
                used += count
        return rows

    def ways_on(self, positions) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Child tokens and weights ([rows, width]) of each row's node, and which rows have no tree ([rows] bool).

        Past the decision (an opening completed, or left) the node is the root again: the mass of opening a refusal here.
        A token the host does not know yet (-1 under async scheduling) makes the row unknown, not wrong.
        """
        width = max(tree.children.shape[1] for tree in self.trees.values())
        device = next(iter(self.trees.values())).children.device
        children = torch.full((len(positions), width), -1, dtype=torch.int64, device=device)
        weights = torch.zeros((len(positions), width), dtype=torch.float32, device=device)
        unknown = torch.ones(len(positions), dtype=torch.bool, device=device)
        for row, (lora, prefix) in enumerate(positions):
            tree = self.trees.get(lora)
            if tree is None or -1 in prefix:
                continue
            node = tree.openings.walk(prefix)
            node = node if node >= 0 and len(prefix) < tree.openings.depth else ROOT
            span = tree.children.shape[1]
            children[row, :span], weights[row, :span], unknown[row] = tree.children[node], tree.weights[node], False
        return children, weights, unknown

    def sample(self, logits, drafts):
        """Sample as vLLM does, then join each sampled token's word to its rank.

        When no request of the step wants logprobs for itself, vLLM's log-softmax and rank passes over the vocabulary (and
        a lazy compile on the first of them) are skipped, and the words travel in tensors of one column.
        """
        words, metadata = self.words, self.runner.input_batch.sampling_metadata
        if words is None:
            return self.run_sample(logits, drafts)
        asked = metadata.max_num_logprobs
        only = not metadata.logprob_token_ids and all(map(self.entropy_only, self.runner.input_batch.req_ids))
        metadata.max_num_logprobs = None if only else asked
        try:
            output = self.run_sample(logits, drafts)
        finally:
            metadata.max_num_logprobs = asked
        sampled = output.sampled_token_ids
        if drafts is not None:
            starts = torch.zeros_like(drafts.cu_num_sampled_tokens)
            starts[1:] = drafts.cu_num_sampled_tokens[:-1]
            steps = torch.arange(sampled.shape[-1], device=starts.device, dtype=starts.dtype)
            words = words[(starts[:, None] + steps).flatten().clamp_(max=len(words) - 1)]
        if only:
            tokens = sampled.reshape(-1, 1).to(torch.int32)
            output.logprobs_tensors = LogprobsTensors(tokens, torch.zeros_like(tokens, dtype=torch.float32), words)
        else:
            tensors = output.logprobs_tensors
            ranks = tensors.selected_token_ranks.to(torch.int64).clamp(0, RANK_MAX)
            output.logprobs_tensors = tensors._replace(selected_token_ranks=ranks | words)
        return output

    def entropy_only(self, request_id: str) -> bool:
        params = self.runner.requests[request_id].sampling_params
        return params is not None and bool((params.extra_args or {}).get(ENTROPY_ONLY))


class WorkerExtension:
    """What the API process may ask of a worker, over vLLM's collective RPC."""

    def sirl_install(self) -> dict:
        """Wrap this worker's model runner once; returns which runner and version it found."""
        name, version = require_supported()
        runner = self.model_runner
        kind = f"{type(runner).__module__}.{type(runner).__qualname__}"
        missing = [a for a in ("sample_tokens", "_sample", "execute_model_state", "input_batch") if not hasattr(runner, a)]
        if missing:
            raise EngineError(
                f"The runner {kind} has no {missing[0]}, so its raw logits cannot be read: unset VLLM_USE_V2_MODEL_RUNNER."
            )
        if getattr(self, "sirl_probe", None) is None:
            self.sirl_probe = Probe(runner)
        return {"engine": f"{name} {version}", "runner": kind, "device": str(runner.device)}

    def sirl_openings(self, adapter: int, openings: dict | None) -> None:
        """Set (or with None forget) the opening tree of a LoRA id; 0 is the base model."""
        tree = None if openings is None else Openings.from_json(openings)
        if tree:
            self.sirl_probe.trees[adapter] = Tree.build(tree, self.model_runner.device)
        else:
            self.sirl_probe.trees.pop(adapter, None)
