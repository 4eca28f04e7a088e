"""The probe of vLLM's Model Runner V2 (the default on GPUs).

Its logits are raw only between `compute_logits` and the grammar's mask, both inside `sample`; its state of a request stays
in one slot of the device while the request lives, and the host lags behind. So a response's place in its tree is kept on the
device, one row of the trees' table a slot, and walked there: nothing waits for the device.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from serving.engine.packing import joined, sent, with_harm, words_of
from serving.engine.residual_stream import ResidualStream
from serving.engine.senses import Part, Senses
from serving.engine.trees import NOWHERE, Trees
from serving.engine.version import EngineError


class ProbeV2:
    """Measures every row of logits of one V2 runner and sends each measurement home with its token."""

    def __init__(self, runner, stream: ResidualStream) -> None:
        if getattr(runner, "batch_sharder", None) is not None:
            raise EngineError("--enable-batch-sharded-sampling hides the logits from the guard's probe: leave it out.")
        self.runner, self.stream = runner, stream
        self.trees, self.senses = Trees(runner.device), Senses(runner.device)
        self.adapters = np.zeros(runner.max_num_reqs, np.int64)
        """The LoRA id of each slot's request."""
        self.prompts = [np.zeros(0, np.int32)] * runner.max_num_reqs
        """The prompt of each slot's request; no token where it came as embeddings."""
        self.auxiliary: Sequence[torch.Tensor] | None = None
        self.rows = torch.full((runner.max_num_reqs,), NOWHERE, dtype=torch.int64, device=runner.device)
        """The place of each slot's response."""
        self.batch = None
        self.words: torch.Tensor | None = None
        if runner.sampler is None:  # a pipeline's stage before the last: it never samples
            return
        self.run_add, self.run_sample, self.run_logits = runner.add_requests, runner.sample, runner.model.compute_logits
        runner.add_requests, runner.sample, runner.model.compute_logits = self.add_requests, self.sample, self.logits
        self.run_sample_tokens, runner.sample_tokens = runner.sample_tokens, self.sample_tokens

    def add_requests(self, scheduled) -> None:
        """Place the responses that begin, or come back with what they had said before they were preempted."""
        self.run_add(scheduled)
        if new := scheduled.scheduled_new_reqs:
            slots = [self.runner.req_states.req_id_to_index[request.req_id] for request in new]
            places = [self.begin(request) for request in new]
            self.adapters[slots] = [adapter_of(request) for request in new]
            for slot, request in zip(slots, new, strict=True):
                told = request.prefill_token_ids[: request.prompt_len] if request.prompt_embeds is None else ()
                self.prompts[slot] = np.array(told, np.int32)
                self.senses.forget(slot)
            device = self.rows.device
            self.rows.index_copy_(0, sent(slots, device), sent(places, device))

    def begin(self, request) -> int:
        adapter = adapter_of(request)
        openings = self.trees.openings.get(adapter)
        if openings is None:
            return NOWHERE
        prompt, said = request.prefill_token_ids[: request.prompt_len], request.prefill_token_ids[request.prompt_len :]
        return self.trees.row(adapter, openings.walk(said, openings.begin(prompt)))

    def sample_tokens(self, *args, **kwargs):
        """Keep the step's auxiliary hidden states, which the runner lets go of before it samples."""
        state = self.runner.execute_model_state
        self.auxiliary = None if state is None else state.aux_hidden_states
        try:
            return self.run_sample_tokens(*args, **kwargs)
        finally:
            self.auxiliary = None

    def sample(self, hidden_states, batch, grammar_output):
        """Let vLLM sample, with the logits measured on the way, and let each response take its step."""
        wanted = batch.num_reqs and self.runner.sampler.get_logprobs_dims(batch.idx_mapping_np) is not None
        self.batch = batch if wanted else None
        stream = self.stream.take(self.auxiliary, batch.num_tokens)
        try:
            output, sampled, rejected = self.run_sample(hidden_states, batch, grammar_output)
        finally:
            words, self.words, self.batch = self.words, None, None
        if words is not None and output.logprobs_tensors is not None:
            output.logprobs_tensors = joined(output.logprobs_tensors, words)
            ends, harm = self.senses.read(stream, self.parts(batch)) if self.senses.known and stream else ((), None)
            if ends:
                first = [int(batch.cu_num_logits_np[row]) for row in ends]
                output.logprobs_tensors = with_harm(output.logprobs_tensors, first, harm)
        if self.trees.openings and batch.num_reqs:
            slots, tokens = batch.idx_mapping.long(), output.sampled_token_ids
            rows = self.rows[slots]
            for column in range(tokens.shape[1]):
                rows = torch.where(column < sampled, self.trees.step(rows, tokens[:, column]), rows)
            self.rows[slots] = rows
        return output, sampled, rejected

    def parts(self, batch) -> list[Part]:
        """What the step computes of prompts. A request that resumes computes its prompt anew, and is read anew: whoever has
        its first token keeps what came with that."""
        if not batch.has_prefill:
            return []
        slots, before = batch.idx_mapping_np, batch.num_computed_prefill_tokens_np
        left = self.runner.req_states.prompt_len.np[slots] - before
        return [
            Part(
                row=i,
                request=int(slots[i]),
                adapter=int(self.adapters[slots[i]]),
                begins=int(batch.query_start_loc_np[i]),
                before=int(before[i]),
                count=int(min(left[i], batch.num_scheduled_tokens[i])),
                length=int(before[i] + left[i]),
                prompt=self.prompts[slots[i]],
            )
            for i in np.flatnonzero(left > 0).tolist()
        ]

    def logits(self, *args, **kwargs):
        """vLLM's logits, measured while they are raw; prompt logprobs and warm-up come this way too and are let pass."""
        logits = self.run_logits(*args, **kwargs)
        if self.batch is not None and self.words is None and logits is not None:
            self.words = words_of(logits, self.trees, self.places(self.batch) if self.trees.openings else None)
        return logits

    def places(self, batch) -> torch.Tensor:
        """The row of the trees' table that belongs to each row of logits; with drafts, behind those before it."""
        rows = self.rows[batch.expanded_idx_mapping.long()]
        if not batch.num_draft_tokens:
            return rows
        last, at = batch.input_ids[batch.logits_indices], batch.expanded_local_pos
        for drafted in range(1, self.runner.num_speculative_steps + 1):
            rows = torch.where(at == drafted, self.trees.step(rows.roll(1), last), rows)
        return rows


def adapter_of(request) -> int:
    """The LoRA id of a request; 0 for the base."""
    return request.lora_request.lora_int_id if request.lora_request else 0
