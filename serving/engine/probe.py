"""The probe of vLLM's V1 runner (the one of CPUs): entropy and refusal mass from the raw logits, carried in the rank word.

- `sample_tokens` is where raw logits last exist: grammar masks, bias, penalties and temperature are all applied after it
  starts, in place. Custom logits processors would see them too late, and are refused under speculative decoding.
- `_sample` returns the sampled tokens; each token's row of measurements joins it there, in the upper bits of its rank.
- Where a step ends prompts, what the harm senses read there joins the first tokens, as one more column of logprobs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from vllm.v1.outputs import LogprobsTensors

from guard.openings import LEFT, MATCHED, Openings
from serving.engine.faults import half_read_prompts_unseeded
from serving.engine.packing import ENTROPY_ONLY, joined, sent, with_harm, words_of
from serving.engine.residual_stream import ResidualStream
from serving.engine.senses import Part, Senses
from serving.engine.trees import Trees

FORGET_OVER = 256
"""Walks of requests that may be kept after them before they are looked through."""


@dataclass(slots=True)
class Walk:
    """Where one response stands in its adapter's tree, after the first `seen` of its tokens; node None: it was lost."""

    openings: Openings
    node: int | None
    seen: int = 0


class Probe:
    """Measures every row of logits of one V1 runner and sends each measurement home with its token."""

    def __init__(self, runner, stream: ResidualStream) -> None:
        self.runner, self.stream = runner, stream
        self.trees, self.senses = Trees(runner.device), Senses(runner.device)
        self.walks: dict[str, Walk] = {}
        self.words: torch.Tensor | None = None
        self.ends: list[int] = []
        self.harm: torch.Tensor | None = None
        """What was read where the step's prompts end, one of each of `ends`."""
        self.last: tuple[torch.Tensor, torch.cuda.Event] | None = None
        """Under async scheduling: the last step's tokens on their way to the host, and when they are there."""
        self.run_sample_tokens, self.run_sample = runner.sample_tokens, runner._sample
        runner.sample_tokens, runner._sample = self.sample_tokens, self.sample

    def sample_tokens(self, grammar_output):
        """Measure the step's logits while they are still raw, then let vLLM sample."""
        state = self.runner.execute_model_state
        if state is not None and state.logits is not None and self.wanted:
            self.words = self.measure(state.logits, state.spec_decode_metadata)
            self.sense(state)
        try:
            with half_read_prompts_unseeded(self.runner):
                return self.run_sample_tokens(grammar_output)
        finally:
            self.words = self.harm = None

    @property
    def wanted(self) -> bool:
        """Whether a request of the step is shipped logprobs, of its most likely tokens or of those it names: words ride
        with either."""
        metadata = self.runner.input_batch.sampling_metadata
        return metadata.max_num_logprobs is not None or bool(metadata.logprob_token_ids)

    def measure(self, logits: torch.Tensor, drafts) -> torch.Tensor:
        """[rows, vocabulary] raw logits -> [rows] int64 words."""
        rows = sent(self.places(drafts), logits.device) if self.trees.openings else None
        return words_of(logits, self.trees, rows)

    def sense(self, state) -> None:
        """Read the senses around the ends of prompts in this step. A prompt that is computed anew, because its request was
        preempted, is read anew, and whoever has its first token keeps what came with that."""
        batch, count = self.runner.input_batch, self.runner.input_batch.num_reqs
        stream = self.stream.take(state.aux_hidden_states, int(self.runner.query_start_loc.np[count]))
        if not (self.senses.known and stream):
            return
        starts, scheduled = self.runner.query_start_loc.np, state.scheduler_output.num_scheduled_tokens
        before, length = batch.num_computed_tokens_cpu[:count], batch.num_prompt_tokens[:count]
        if parts := [
            Part(
                row=i,
                request=(name := batch.req_ids[i]),
                adapter=int(batch.request_lora_mapping[i]),
                begins=int(starts[i]),
                before=int(before[i]),
                count=min(int(length[i] - before[i]), scheduled.get(name, 0)),
                length=int(length[i]),
                prompt=batch.token_ids_cpu[i, : length[i] if self.runner.requests[name].prompt_embeds is None else 0],
            )
            for i in np.flatnonzero(length > before).tolist()
        ]:
            self.ends, harm = self.senses.read(stream, parts)
            self.harm = harm if self.ends else None

    def places(self, drafts) -> list[int]:
        """The row of the trees' table that belongs to each row of logits.

        Without speculation there is a row a request. With it, request i has one row before each of its drafted tokens
        and one after the last, and the row's place is behind the drafts before it.
        """
        batch, found, used = self.runner.input_batch, [], 0
        ids = drafts.draft_token_ids.tolist() if drafts is not None else []
        arrived = self.arrived()
        for i, request in enumerate(batch.req_ids):
            adapter = int(batch.request_lora_mapping[i])
            count = drafts.num_draft_tokens[i] if drafts is not None else 0
            node = self.advance(i, request, adapter, arrived)
            found.append(self.trees.row(adapter, node))
            for token in ids[used : used + count]:
                node = None if node is None else self.trees.openings[adapter].step(node, token)
                found.append(self.trees.row(adapter, node))
            used += count
        if len(self.walks) > 2 * len(batch.req_ids) + FORGET_OVER:
            self.walks = {request: walk for request, walk in self.walks.items() if request in self.runner.requests}
        return found

    def advance(self, i: int, request: str, adapter: int, arrived: dict[str, list[int]]) -> int | None:
        """The node at which the next token of the batch's i-th request stands; None where nobody knows.

        Under async scheduling the host's batch knows the newest tokens as -1 only; they come by `arrived`, or are lost.
        """
        batch, openings = self.runner.input_batch, self.trees.openings.get(adapter)
        if openings is None:
            return None
        prompt, known = int(batch.num_prompt_tokens[i]), int(batch.num_tokens_no_spec[i])
        walk = self.walks.get(request)
        if walk is None or walk.openings is not openings:
            asked = batch.token_ids_cpu[i, :prompt].tolist() if openings.reasoning else ()
            walk = self.walks[request] = Walk(openings, openings.begin(asked))
        if walk.node in (None, LEFT, MATCHED):
            return walk.node
        new = batch.token_ids_cpu[i, prompt + walk.seen : max(known, prompt)].tolist()
        if -1 in new:
            newest, pending = arrived.get(request, []), len(new) - new.index(-1)
            # Speculation holds places for more tokens than were accepted.
            whole = newest and (pending == len(newest) or self.runner.num_spec_tokens)
            new = [*new[:-pending], *(newest if whole else [-1])]
        walk.node, walk.seen = None if -1 in new else openings.walk(new, walk.node), walk.seen + len(new)
        return walk.node

    def arrived(self) -> dict[str, list[int]]:
        """Under async scheduling, each request's tokens of the step before. Their copy to the host was begun when they were
        drawn, before this step's forward pass, so nothing waits here that the step would not wait for."""
        if self.last is None:
            return {}
        (tokens, ready), self.last = self.last, None
        ready.synchronize()
        rows, where = tokens.tolist(), self.runner.input_batch.prev_req_id_to_index or {}
        return {request: [token for token in rows[row] if token >= 0] for request, row in where.items() if row < len(rows)}

    def sample(self, logits, drafts):
        """Sample as vLLM does, then join each sampled token's word to its rank.

        When no request of the step wants logprobs for itself, vLLM's log-softmax and rank passes over the vocabulary (and
        a lazy compile on the first of them) are skipped, and the words travel in tensors of one column.
        """
        words, metadata = self.words, self.runner.input_batch.sampling_metadata
        self.last = None
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
        if self.runner.use_async_scheduling:
            tokens = torch.empty(sampled.shape, dtype=sampled.dtype, pin_memory=True)
            tokens.copy_(sampled, non_blocking=True)
            self.last = tokens, torch.cuda.Event()
            self.last[1].record()
        if drafts is not None:
            starts = torch.zeros_like(drafts.cu_num_sampled_tokens)
            starts[1:] = drafts.cu_num_sampled_tokens[:-1]
            steps = torch.arange(sampled.shape[-1], device=starts.device, dtype=starts.dtype)
            words = words[(starts[:, None] + steps).flatten().clamp_(max=len(words) - 1)]
        if only:
            tokens = sampled.reshape(-1, 1).to(torch.int32)
            output.logprobs_tensors = LogprobsTensors(tokens, torch.zeros_like(tokens, dtype=torch.float32), words)
        else:
            output.logprobs_tensors = joined(output.logprobs_tensors, words)
        if self.harm is not None:
            width = sampled.shape[-1]  # a request's first row, of those for drafts
            output.logprobs_tensors = with_harm(output.logprobs_tensors, [row * width for row in self.ends], self.harm)
        return output

    def entropy_only(self, request_id: str) -> bool:
        params = self.runner.requests[request_id].sampling_params
        return params is not None and bool((params.extra_args or {}).get(ENTROPY_ONLY))
