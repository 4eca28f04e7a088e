"""The output tap: it takes measurements off the engine's outputs in the API process, and acts on them there.

`AsyncLLM` hands every engine output to one `OutputProcessor`. Three of its methods are wrapped on the one object:
`add_request` ties an answer to the engine's request id (right for n>1 and duplicate external ids), `process_outputs` unpacks
the words, restores vLLM's ranks and decides what vLLM may see, and `abort_requests` forgets what a client walked away from.

Enforcement happens before vLLM has seen a token: what is held back is not detokenised, logged, streamed, stored or counted
anywhere, so there is nothing of it that could leak, whatever the shape of the response. A halt feeds the model's own short
refusal through the same door as if the engine had sent it, so that every shape stays well-formed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine import EngineCoreOutput, EngineCoreRequest, FinishReason
from vllm.v1.engine.detokenizer import IncrementalDetokenizer
from vllm.v1.engine.logprobs import LogprobsProcessor
from vllm.v1.outputs import LogprobsLists

from guard.gatekeeper import Gatekeeper, Move
from guard.openings import Tokens
from guard.packed_measurement import unpack
from guard.policy import Action
from guard.record import ResponseRecord
from guard.rule import Rule
from serving.engine.cache_bound import bound
from serving.engine.fields import steered
from serving.engine.packing import ENTROPY_ONLY, without_harm
from serving.request.exchange import ServedAnswer

log = logging.getLogger("sirl")

WITHHELD = -9999.0
"""The logprob of a token of which none is told; OpenAI's API writes it for those outside of its list."""
Opened = Callable[[int], ServedAnswer | None]
"""Choice index within the engine call under way -> the answer to fill, or None for a call that was not ours."""


class Watcher(Protocol):
    """Who is told how an answer ended: by the model, by its client walking away, or by the guard breaking on it."""

    def finished(self, answer: ServedAnswer) -> None: ...
    def aborted(self, answer: ServedAnswer) -> None: ...
    def failed(self, answer: ServedAnswer) -> None: ...


@dataclass(slots=True)
class Draw:
    """A response in the place of another: what the engine sent for it, none of which vLLM's output processor sees.

    gatekeeper: what it is judged by, as a first answer is; passes: whether it may take the other's place.
    """

    record: ResponseRecord
    entropy_only: bool
    ended: asyncio.Future
    gatekeeper: Gatekeeper | None = None
    passes: bool = False
    outputs: list[EngineCoreOutput] = field(default_factory=list)


@dataclass(slots=True)
class Tapped:
    """One choice on its way: its answer, and under enforcement what is held of it and the redraw that will replace it."""

    answer: ServedAnswer
    entropy_only: bool
    request: EngineCoreRequest
    gatekeeper: Gatekeeper | None
    held: list[EngineCoreOutput] = field(default_factory=list)
    delivered: int = 0
    """Tokens that vLLM has been given of it."""
    redraw: asyncio.Task | None = None
    refused: bool = False
    """Whether it is an over-refusal that is held until it is known whether another answer takes its place."""


class Redrawer(Protocol):
    """Who can draw a response anew: regenerate from the same adapter, or route to another (`drawn`), or answer what was
    refused without need (`redrawn`); None where no draw passes."""

    async def drawn(self, tapped: Tapped) -> Draw | None: ...
    async def redrawn(self, tapped: Tapped) -> Draw | None: ...
    async def stop(self, identity: str) -> None: ...
    def record_stats(self, stats: object) -> None: ...


class Tap:
    """Fills answers from engine outputs, lets through what the gatekeeper lets, and reports each answer that finishes.

    separator: tokens between what a client already has and a refusal; end: the model's end token; closed: whether a guard
    that breaks under enforcement halts (True) or lets pass (False); hold_reasoning: whether what a model thinks before its
    answer is held with it.
    """

    def __init__(
        self,
        processor,
        opened: Opened,
        watcher: Watcher,
        drawer: Redrawer,
        *,
        separator: tuple[int, ...],
        end: int,
        closed: bool,
        hold_reasoning: bool = True,
    ) -> None:
        self.processor, self.opened, self.watcher, self.drawer = processor, opened, watcher, drawer
        self.separator, self.end, self.closed, self.hold_reasoning = separator, end, closed, hold_reasoning
        self.live: dict[str, Tapped] = {}
        self.draws: dict[str, Draw] = {}
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
        if ENTROPY_ONLY in extra and (answer := self.opened(request_index)) is not None:
            answer.prompt, answer.prompt_tokens = prompt, tuple(request.prompt_token_ids or ())
            answer.params, answer.multimodal = params, bool(request.mm_features)
            bound(params, answer.sense, answer.prompt_tokens)
            answer.record.begin(answer.prompt_tokens)
            answer.record.steered = steered(params)
            gatekeeper = self.gatekeeper(answer.rule, answer.record, answer.needless)
            self.live[request.request_id] = Tapped(answer, only, request, gatekeeper)

    def gatekeeper(self, rule: Rule | None, record: ResponseRecord, needless: float | None = None) -> Gatekeeper | None:
        """What holds a response to a rule, if it is held to one."""
        return None if rule is None else Gatekeeper(rule, self.hold_reasoning or record.steered, needless)

    def process_outputs(self, outputs, *args, **kwargs):
        """Take the words off, let vLLM process what the gatekeeper lets through, and report what ended."""
        passed: list[EngineCoreOutput] = []
        stopped: list[str] = []
        for output in outputs:
            if draw := self.draws.get(output.request_id):
                self.collect(draw, output)
            elif tapped := self.live.get(output.request_id):
                passed += self.admit(tapped, output, stopped)
            else:
                measure(output, None, False)
                passed.append(output)
        states = {o.request_id: self.processor.request_states.get(o.request_id) for o in passed if o.request_id in self.live}
        processed = self._process(passed, *args, **kwargs)
        for identity, state in states.items():
            if identity not in self.processor.request_states:
                self.end_of(self.live.pop(identity), state, passed)
        processed.reqs_to_abort.extend(stopped)
        return processed

    def admit(self, tapped: Tapped, output: EngineCoreOutput, stopped: list[str]) -> list[EngineCoreOutput]:
        """What of a choice vLLM may see now; ids of requests that the engine must stop go into `stopped`."""
        if tapped.redraw is not None and not tapped.refused:
            return []
        record = tapped.answer.record
        measure(output, record, tapped.entropy_only)
        if tapped.gatekeeper is None:
            return [output]
        tapped.held.append(output)
        return [] if tapped.refused else self.judged(tapped, tapped.gatekeeper, stopped)

    def judged(self, tapped: Tapped, gatekeeper: Gatekeeper, stopped: list[str]) -> list[EngineCoreOutput]:
        """What of the held outputs of a choice vLLM may see now; `stopped` as in `admit`."""
        output = tapped.held[-1]
        move = self.decided(tapped, gatekeeper, ended=output.finish_reason is not None)
        if move is Move.REDRAW:
            tapped.refused = True
            self.begin(tapped, self.answer_anew(tapped))
        if move in (Move.HOLD, Move.REDRAW):
            return []
        held, tapped.held = tapped.held, []
        if move is Move.RELEASE:
            return self.let_go(tapped, held)
        if move is Move.EMPTY:
            return [self.spoken(tapped, held[0], (), output.finish_reason)]
        if output.finish_reason is None:
            stopped.append(output.request_id)
        action = tapped.answer.request.policy.action
        if action is Action.HALT or gatekeeper.read:  # what a client has begun to read cannot be drawn anew
            return [self.halted(tapped, held[0])]
        self.begin(tapped, self.replace(tapped, held[0], action))
        return []

    def begin(self, tapped: Tapped, redraw: Coroutine[Any, Any, None]) -> None:
        """Draw a choice anew while the loop that hands out tokens goes on."""
        tapped.redraw = asyncio.get_running_loop().create_task(redraw)
        tapped.redraw.add_done_callback(lambda task: self.surface(task, tapped.request.request_id))

    def let_go(self, tapped: Tapped, held: list[EngineCoreOutput]) -> list[EngineCoreOutput]:
        """What was held, as its client may have it: how likely other tokens were where refusing was weighed would tell how
        near the threshold was, so it is for those alone who see all."""
        gatekeeper, at = tapped.gatekeeper, tapped.delivered
        for output in held:
            tapped.delivered += len(output.new_token_ids)
            if gatekeeper is not None and output.new_logprobs is not None and not tapped.answer.request.sees_all:
                rows = [row for row in range(len(output.new_token_ids)) if at + row in gatekeeper.weighed]
                output.new_logprobs = withheld(output.new_logprobs, rows) if rows else output.new_logprobs
            at = tapped.delivered
        return held

    def decided(self, tapped: Tapped, gatekeeper: Gatekeeper, *, ended: bool) -> Move:
        """The gatekeeper's move. Where the guard breaks on a choice that is counted, and the choice is halted or passes
        unguarded from here on, as configured."""
        move = self.moved(gatekeeper, tapped.answer.record, ended=ended, so="halted" if self.closed else "let pass")
        if move is not None:
            return move
        self.watcher.failed(tapped.answer)
        if self.closed:
            gatekeeper.read = True  # nothing to draw anew: the guard is what failed
            return Move.TOUCH
        tapped.gatekeeper = None
        return Move.RELEASE

    def moved(self, gatekeeper: Gatekeeper, record: ResponseRecord, *, ended: bool, so: str) -> Move | None:
        """The gatekeeper's move, or None where the guard breaks under enforcement, which is caught here, and here only: the
        loop that hands out tokens serves everybody. `so`: what becomes of the response then, for the log."""
        try:
            return gatekeeper.move(record, ended=ended)
        except Exception as error:
            log.error("the guard failed on a response, which was %s: %r", so, error)
            return None

    def halted(self, tapped: Tapped, first: EngineCoreOutput) -> EngineCoreOutput:
        """The choice ended by a short refusal in the model's own words."""
        calibration = tapped.answer.calibration
        forced = tapped.request.sampling_params.structured_outputs is not None
        # Prose would be no answer where a grammar was asked for.
        refusal = calibration.refusal if calibration and not forced else ()
        tapped.answer.action = Action.HALT
        return self.spoken(tapped, first, refusal, FinishReason.STOP)

    def spoken(self, tapped: Tapped, first: EngineCoreOutput, words: Tokens, reason: FinishReason) -> EngineCoreOutput:
        """The engine's output turned into these words and the end; its events and its prompt's figures stay."""
        state = self.processor.request_states[first.request_id]
        going_on = state.output_kind is RequestOutputKind.DELTA and bool(state.detokenizer.num_output_tokens())
        if going_on and words:
            words = (*self.separator, *words)
        elif not going_on:
            self.forget(state, tapped)
        tokens = [*marks(tapped.answer, going_on=going_on), *words]
        if reason is FinishReason.STOP or not tokens:  # only then does vLLM take the end token off the text
            tokens.append(self.end)
        first.new_token_ids, first.finish_reason, first.stop_reason = tokens, reason, None
        first.new_logprobs = None if tapped.entropy_only else certain(tokens)
        first.new_sampling_mask = first.routed_experts = None
        tapped.answer.spoken = tuple(tokens)
        return first

    def forget(self, state, tapped: Tapped) -> None:
        """Make vLLM's record of a choice as new: what it had gathered was never sent."""
        request, params = tapped.request, tapped.request.sampling_params
        tokenizer, asked = self.processor.tokenizer if params.detokenize else None, params.logprobs
        params.logprobs = None if tapped.entropy_only else asked
        known = state.logprobs_processor
        state.logprobs_processor = LogprobsProcessor.from_new_request(tokenizer=tokenizer, request=request)
        state.logprobs_processor.prompt_logprobs = known.prompt_logprobs
        state.detokenizer = IncrementalDetokenizer.from_new_request(tokenizer=tokenizer, request=request)
        params.logprobs = asked
        state.sent_tokens_offset = 0
        state.sampling_mask_chunks.clear()
        state.routed_experts_chunks.clear()

    async def replace(self, tapped: Tapped, first: EngineCoreOutput, action: Action) -> None:
        """Let another response take this one's place: draw it whole, then send it under this one's id. Where that fails the
        choice is halted, for what was held is gone."""
        try:
            draw = await self.drawer.drawn(tapped)
        except Exception as error:
            log.error("a response could not be drawn anew, and was halted: %r", error)
            self.watcher.failed(tapped.answer)
            outputs = [self.halted(tapped, first)]
        else:
            outputs = [self.halted(tapped, first)] if draw is None else self.taken(tapped, draw, first, action)
        self.send(tapped, outputs)

    async def answer_anew(self, tapped: Tapped) -> None:
        """Let another answer take the place of an over-refusal, which is held meanwhile, and goes out where none passes."""
        stopped: list[str] = []
        try:
            draw = await self.drawer.redrawn(tapped)
        except Exception as error:
            log.error("an over-refusal could not be drawn anew, and stands: %r", error)
            self.watcher.failed(tapped.answer)
            draw = None
        held, gatekeeper = tapped.held, tapped.gatekeeper
        tapped.refused = False
        if draw is not None:
            if held[-1].finish_reason is None:
                stopped.append(tapped.request.request_id)
            tapped.held = []
            outputs = self.taken(tapped, draw, held[0], Action.REDRAW)
        else:
            assert gatekeeper is not None, "it asked for another answer"
            gatekeeper.needless, tapped.redraw = None, None
            outputs = self.judged(tapped, gatekeeper, stopped)
        stopped += self.send(tapped, outputs)
        for identity in stopped:
            await self.drawer.stop(identity)

    def send(self, tapped: Tapped, outputs: list[EngineCoreOutput]) -> list[str]:
        """Hand vLLM outputs of a choice beside the engine's loop, and report the answer if it has ended. Returns ids of
        requests that the engine must stop, for vLLM found a stop string."""
        if not outputs:
            return []
        identity = tapped.request.request_id
        state = self.processor.request_states[identity]
        stats = iteration_stats() if self.processor.log_stats else None
        processed = self._process(outputs, stats.iteration_timestamp if stats else None, stats)
        if stats:
            self.drawer.record_stats(stats)
        if identity not in self.processor.request_states and self.live.pop(identity, None):
            self.end_of(tapped, state, outputs)
        return list(processed.reqs_to_abort)

    def taken(self, tapped: Tapped, draw: Draw, first: EngineCoreOutput, action: Action) -> list[EngineCoreOutput]:
        """A draw's outputs under the id of the response whose place it takes."""
        tapped.answer.action, tapped.answer.record, tapped.gatekeeper = action, draw.record, draw.gatekeeper
        for output in draw.outputs:
            output.request_id = first.request_id
        draw.outputs[0].events, draw.outputs[0].prefill_stats = first.events, first.prefill_stats
        return self.let_go(tapped, draw.outputs)

    def surface(self, task: asyncio.Task, identity: str) -> None:
        """A redraw that ended by a defect of ours: its client gets an error, and does not wait for ever."""
        if task.cancelled() or (error := task.exception()) is None:
            return
        log.error("a response that was drawn anew could not be sent", exc_info=error)
        if self.live.pop(identity, None) is not None:
            asyncio.get_running_loop().create_task(self.drawer.stop(identity))  # an over-refusal goes on beside its redraw
        if (state := self.processor.request_states.get(identity)) is not None:
            state.queue.put(RuntimeError("The response could not be drawn anew: try again."))

    def collect(self, draw: Draw, output: EngineCoreOutput) -> None:
        """Keep what the engine sends for a draw, and judge it as a first answer is judged, token by token."""
        measure(output, draw.record, draw.entropy_only)
        draw.outputs.append(output)
        ended = output.finish_reason is not None
        if (
            draw.gatekeeper is not None
        ):  # one that the guard breaks on may not be sent, whatever is configured: it was to be safer
            move = self.moved(draw.gatekeeper, draw.record, ended=ended, so="dropped")
            draw.passes = move in (Move.HOLD, Move.RELEASE) and (draw.passes or len(draw.outputs) == 1)
        if ended and not draw.ended.done():
            draw.ended.set_result(None)

    def end_of(self, tapped: Tapped, state, outputs: list[EngineCoreOutput]) -> None:
        """An answer is whole: note what its client got, and tell. What the guard does when it breaks on a finished answer is
        decided here, and here only: it is logged and counted, the answer goes out without a verdict, and the engine's output
        loop, which serves everybody, goes on."""
        answer = tapped.answer
        try:
            answer.text = getattr(state.detokenizer, "output_text", "")  # absent when not detokenizing
            reasons = [o.finish_reason for o in outputs if o.request_id == state.request_id and o.finish_reason is not None]
            # A stop string is found by vLLM here, and not in the engine.
            answer.finish_reason = (
                "content_filter" if answer.action is Action.HALT else str(reasons[-1] if reasons else "stop")
            )
            if not answer.spoken:
                answer.record.trim(state.detokenizer.num_output_tokens())
            self.watcher.finished(answer)
        except Exception:
            log.exception("the guard failed on an answer, which went out without a verdict")
            self.watcher.failed(answer)

    def abort_requests(self, request_ids, internal):
        """Abort as vLLM does; what was aborted gets no verdict, for its end was the client's and not the model's."""
        aborted = self._abort(request_ids, internal)
        for request_id in aborted:
            if tapped := self.live.pop(request_id, None):
                if tapped.redraw is not None:
                    tapped.redraw.cancel()
                self.watcher.aborted(tapped.answer)
        return aborted


def measure(output: EngineCoreOutput, record: ResponseRecord | None, entropy_only: bool) -> None:
    """Take the words off one output, give vLLM its ranks back, and let the record grow by what was measured."""
    lists = output.new_logprobs
    tokens = output.new_token_ids
    words = np.zeros(len(tokens), np.int64)  # no measurements
    if lists is not None:
        harm, lists = without_harm(lists)
        if record is not None and record.harm is None:
            record.harm = harm
        known = lists.sampled_token_ranks[: len(tokens)]
        words[: len(known)] = known
        _, _, ranks = unpack(lists.sampled_token_ranks)
        output.new_logprobs = None if entropy_only else lists._replace(sampled_token_ranks=ranks)
    if record is not None:
        entropies, masses, _ = unpack(words)
        record.extend(tokens, entropies.tolist(), masses.tolist())


def marks(answer: ServedAnswer, *, going_on: bool) -> Tokens:
    """What closes a reasoning before words of ours, so that a client's parser takes them for the answer. Where the client
    has read of it (`going_on`) only an open one needs closing; else all that was drawn is forgotten, its opening too."""
    openings, record = answer.record.openings, answer.record
    if not (openings and (known := openings.reasoning) and (record.reasoned or record.thinking)):
        return ()
    if going_on:
        return (known.end,) if record.thinking else ()
    return (known.end,) if known.thinks(answer.prompt_tokens) else (known.start, known.end)


def withheld(lists: LogprobsLists, rows: list[int]) -> LogprobsLists:
    """Logprobs of which these rows tell the sampled token alone, and of it only that it was sampled."""
    tokens, logprobs = lists.logprob_token_ids.copy(), lists.logprobs.copy()
    tokens[rows], logprobs[rows] = tokens[rows, :1], WITHHELD
    return lists._replace(logprob_token_ids=tokens, logprobs=logprobs)


def certain(tokens: list[int]) -> LogprobsLists:
    """Logprobs of tokens nobody sampled: each alone, with probability 1."""
    column = np.array(tokens, dtype=np.int64)[:, None]
    return LogprobsLists(column, np.zeros(column.shape, np.float32), np.ones(len(tokens), np.int64))


def iteration_stats():
    from vllm.v1.metrics.stats import IterationStats

    return IterationStats()
