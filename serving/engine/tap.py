"""The API process's half of the probe: entropies are taken off where the engine's outputs come in.

`AsyncLLM` hands every engine output to one `OutputProcessor`. Three of its methods are wrapped on the one object:
`add_request` ties an answer to the engine's request id (right for n>1 and duplicate external ids), `process_outputs` unpacks
the words and restores vLLM's ranks before vLLM reads them, and `abort_requests` forgets what a client walked away from.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from guard.word import unpack
from serving.engine.probe import ENTROPY_ONLY, MARK
from serving.traffic import Answer

log = logging.getLogger("sirl")

Opened = Callable[[int, int], Answer | None]
"""(handle of the call, choice index within it) -> the answer to fill, or None for a call that was not ours."""


class Watcher(Protocol):
    """Who is told how an answer ended: by the model, by its client walking away, or by the guard breaking on it."""

    def finished(self, answer: Answer) -> None: ...
    def aborted(self, answer: Answer) -> None: ...
    def failed(self, answer: Answer) -> None: ...


@dataclass(slots=True)
class Tapped:
    answer: Answer
    entropy_only: bool


class Tap:
    """Fills answers from engine outputs and reports each that finishes."""

    def __init__(self, processor, opened: Opened, watcher: Watcher) -> None:
        self.processor, self.opened, self.watcher = processor, opened, watcher
        self.live: dict[str, Tapped] = {}
        self._add, self._process, self._abort = (
            processor.add_request,
            processor.process_outputs,
            processor.abort_requests,
        )
        processor.add_request = self.add_request
        processor.process_outputs = self.process_outputs
        processor.abort_requests = self.abort_requests

    def add_request(self, request, prompt, parent_req=None, request_index=0, queue=None) -> None:
        """Register with vLLM; where only we want logprobs, vLLM's own bookkeeping of them is left out."""
        params = request.sampling_params
        extra = (params.extra_args or {}) if params is not None else {}
        only = bool(extra.get(ENTROPY_ONLY))
        if only:
            params.logprobs = None
        self._add(request, prompt, parent_req, request_index, queue)
        if only:
            params.logprobs = 0
        if MARK in extra and (answer := self.opened(extra[MARK], request_index)) is not None:
            answer.prompt, answer.prompt_tokens = prompt, tuple(request.prompt_token_ids or ())
            self.live[request.request_id] = Tapped(answer, only)

    def process_outputs(self, outputs, *args, **kwargs):
        """Take the words off, let vLLM process, then extend the records by what vLLM kept of each step."""
        measured = []
        for output in outputs:
            tapped = self.live.get(output.request_id)
            lists = output.new_logprobs
            if lists is not None:
                entropies, masses, ranks = unpack(lists.sampled_token_ranks)
                output.new_logprobs = None if tapped and tapped.entropy_only else lists._replace(sampled_token_ranks=ranks)
            else:
                entropies = masses = np.full(len(output.new_token_ids), np.nan)
            if tapped:
                state = self.processor.request_states.get(output.request_id)
                measured.append((output, state, tapped.answer, entropies.tolist(), masses.tolist()))
        processed = self._process(outputs, *args, **kwargs)
        for output, state, answer, entropies, masses in measured:
            kept = len(output.new_token_ids)
            answer.record.extend(output.new_token_ids, entropies[:kept], masses[:kept])
            if output.request_id not in self.processor.request_states:
                self.live.pop(output.request_id, None)
                answer.text = getattr(state and state.detokenizer, "output_text", "")  # absent when not detokenizing
                answer.finish_reason = str(output.finish_reason or "stop")  # a stop string is found here, not in the engine
                self.tell(answer)
        return processed

    def tell(self, answer: Answer) -> None:
        """Report a finished answer. What the guard does when it breaks is decided here, and here only: it is logged and
        counted, the answer goes out without a verdict, and the engine's output loop, which serves everybody, goes on."""
        try:
            self.watcher.finished(answer)
        except Exception:
            log.exception("the guard failed on an answer, which went out without a verdict")
            self.watcher.failed(answer)

    def abort_requests(self, request_ids, internal):
        """Abort as vLLM does; what was aborted gets no verdict, for its end was the client's and not the model's."""
        aborted = self._abort(request_ids, internal)
        for request_id in aborted:
            if tapped := self.live.pop(request_id, None):
                self.watcher.aborted(tapped.answer)
        return aborted
