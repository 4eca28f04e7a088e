"""The guarded engine: vLLM's AsyncLLM, with the live adapter attached and every response measured."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from vllm import envs
from vllm.exceptions import VLLMValidationError
from vllm.lora.request import LoRARequest
from vllm.outputs import RequestOutput
from vllm.sampling_params import SamplingParams
from vllm.v1.engine.async_llm import AsyncLLM

from guard.beginnings import Beginnings
from guard.calibration import Calibration
from guard.openings import Openings, Tokens
from guard.policy import Action, Policy
from guard.record import ResponseRecord
from guard.sense import Sense
from online.calibration.beginnings import beginnings
from online.settings.groups import GuardSettings
from serving.api_formats import API_FORMATS
from serving.engine.adapter_labels import BoundedStates
from serving.engine.adapters import Adapters, Lease
from serving.engine.cache_bound import TAKEN, bound
from serving.engine.faults import fatal
from serving.engine.fields import asks_of_the_prompt, steered, unsteered
from serving.engine.lora_modules import refuse_uncalibrated
from serving.engine.output_tap import Draw, Tap, Tapped, Watcher
from serving.engine.packing import ENTROPY_ONLY
from serving.engine.version import EngineError
from serving.request.exchange import Exchange, ServedAnswer, current

SEPARATOR = "\n\n"
"""Between what a client has read and the refusal that ends it."""
COMPLETIONS = "/v1/completions"
"""The route whose prompts need be no chat."""
DRAW_LIMIT_S = 300.0
"""Seconds after which a response that is drawn anew is given up: halted, or the refusal that it was to replace stands."""


@dataclass(frozen=True, slots=True)
class EngineCall:
    """One prompt on its way into the engine: whose it is, which of the request's prompts, its adapter, and its choices."""

    exchange: Exchange
    prompt: int
    lease: Lease
    n: int


engine_call: ContextVar[EngineCall | None] = ContextVar("sirl_engine_call", default=None)
"""Set where the engine is called, read where its output processor opens a choice."""


class Guarded(AsyncLLM):
    """An AsyncLLM (some of vLLM's routes insist on one) whose requests carry a measurement and hold an adapter lease."""

    adapters: Adapters
    tap: Tap
    beginnings = Beginnings()
    """Where an answer begins, by the served tokenizer and chat template."""
    draining = False
    _loop: asyncio.AbstractEventLoop | None = None

    async def guard(
        self,
        watcher: Watcher,
        adapters: Adapters,
        settings: GuardSettings,
        *,
        template: str | None = None,
        arguments: Mapping[str, Any] | None = None,
        modules: Mapping[str, LoRARequest] | None = None,
        assigned: Callable[[str], str | None] = lambda client: None,
        ranks_clients: bool = True,
    ) -> dict:
        """Install the probe in every worker and begin to measure; returns what the workers said of themselves.

        template: a chat template in place of the tokenizer's own; arguments: what it is given by default; modules: the
        operator's own LoRA modules by name, which a response may be routed to; assigned: (hash of a client) -> the version
        that it gets in place of the live one, if any; ranks_clients: whether a client's own priority counts, else it is as
        if none were given.
        """
        self.adapters, self.settings, self._loop = adapters, settings, asyncio.get_running_loop()
        self.default_policy = Policy(settings.mode, settings.action, over_refusal=settings.over_refusal)
        self.modules, self.assigned, self.ranks_clients = modules or {}, assigned, ranks_clients
        self._fail, self.output_processor.propagate_error = self.output_processor.propagate_error, self._failed
        facts = await self.collective_rpc("sirl_install")
        self.output_processor.lora_states = BoundedStates(self.output_processor.log_stats)
        tokenizer = self.get_tokenizer()
        self.beginnings = beginnings(tokenizer, template, arguments)
        self.tap = Tap(
            self.output_processor,
            self._opened,
            watcher,
            self,
            separator=tuple(tokenizer.encode(SEPARATOR, add_special_tokens=False)),
            end=tokenizer.eos_token_id,
            closed=settings.on_failure == "closed",
            hold_reasoning=settings.reasoning == "hold",
        )
        return facts[0]

    async def load_adapter(self, request: LoRARequest) -> None:
        """Bring an adapter into the engine; in-flight responses are not touched. Raises EngineError."""
        try:
            await self.add_lora(request)
        except Exception as error:  # vLLM re-raises a worker's failure as a bare Exception with its message
            raise EngineError(
                f"The engine did not load {request.lora_name} ({error}): see its log for the cause."
            ) from error

    async def unload_adapter(self, lora_id: int) -> None:
        """Remove an adapter that no response uses any more, weights and openings."""
        if self.draining:  # an engine on its way out answers nothing any more, and whoever asks would wait for ever
            return
        await self.remove_lora(lora_id)
        await self.set_openings(lora_id, None)
        await self.set_sense(lora_id, None)

    async def set_openings(self, lora_id: int, openings: Openings | None) -> None:
        """Tell every worker the opening tree to measure for one LoRA id (0 is the base model)."""
        await self.collective_rpc("sirl_openings", args=(lora_id, openings.to_json() if openings else None))

    async def set_sense(self, lora_id: int, sense: Sense | None) -> str | None:
        """Tell every worker the harm sense of one LoRA id (0 is the base model); returns why it cannot be read, in a
        sentence, or None."""
        told = await self.collective_rpc("sirl_sense", args=(lora_id, sense and sense.to_json()))
        return next(filter(None, told), None)

    async def cleanse(self) -> None:
        """Rid the KV cache of what a broken adapter left there: what runs is computed anew, no prefix is taken from it."""
        await self.collective_rpc("sirl_cleanse")
        await self.reset_prefix_cache(reset_running_requests=True)

    def _opened(self, choice: int) -> ServedAnswer | None:
        """The answer that a choice of the call under way fills: choice indices run on over a request's prompts, as in
        OpenAI's API. None: the call is not ours to measure."""
        if (call := engine_call.get()) is None:
            return None
        record = self._record(call.lease.calibration)
        index = call.prompt * call.n + choice
        answer = ServedAnswer(call.exchange, index, call.lease.name, record, call.lease.calibration, call.lease.sense)
        call.exchange.answers.append(answer)
        return answer

    def _record(self, calibration: Calibration | None) -> ResponseRecord:
        return ResponseRecord(calibration.openings if calibration else None, self.beginnings)

    def generate(  # a plain method: prompts are numbered in the order of the calls, not of their first await
        self,
        prompt,
        sampling_params: SamplingParams,
        request_id: str,
        *,
        lora_request: LoRARequest | None = None,
        **kwargs,
    ) -> AsyncGenerator[RequestOutput, None]:
        request = current.get() or Exchange(policy=self.default_policy)
        if lora_request is not None:  # modules that vLLM chooses by itself (--default-mm-loras) too
            refuse_uncalibrated(request, lora_request.lora_name, self.settings.exempt_modules)
        # Here and not behind the first await, where a stream has begun and could only break off.
        reason = unguardable(request, prompt, sampling_params, self.beginnings) or fatal(sampling_params, self.vllm_config)
        if reason:
            raise VLLMValidationError(reason)
        index = request.next_prompt()
        return self._generate(request, index, prompt, sampling_params, request_id, lora_request, kwargs)

    async def _generate(self, request, index, prompt, params, request_id, lora_request, kwargs):
        if self.draining and request.internal:  # else what a batch has not drawn yet would wait for an engine that is gone
            raise EngineError("The server is shutting down: draw elsewhere.")
        if not self.ranks_clients and not request.internal:
            kwargs["priority"] = 0
        params = copy.copy(params)
        only = params.logprobs is None and not params.logprob_token_ids
        params.extra_args = {**(params.extra_args or {}), ENTROPY_ONLY: only, TAKEN: None}
        if only:
            params.logprobs = 0
        pinned = request.adapter or (None if request.internal else self.assigned(request.client))
        with self.adapters.lease(lora_request, pinned) as lease:
            # vLLM registers each choice with its output processor within the first step of this loop, in this very context.
            engine_call.set(EngineCall(request, index, lease, params.n))
            async for output in super().generate(prompt, params, request_id, lora_request=lease.lora_request, **kwargs):
                yield output

    async def drawn(self, tapped: Tapped) -> Draw | None:
        """A response in this one's place, judged like a first answer; None where none passes. Routed, one draw of the
        fallback adapter; regenerated, the one of lowest mean entropy among several, for a refusal is what a model is sure
        of (arXiv 2510.01088, best of n)."""
        policy, answer = tapped.answer.request.policy, tapped.answer
        routed = policy.action is Action.ROUTE
        target = self.settings.route_to if routed else answer.adapter
        with self.adapters.lease(self.modules.get(target or ""), target) as lease:
            if lease.name != target and target not in self.modules:
                raise EngineError(f"The fallback adapter {target} is not loaded: load it, or set another --guard-route-to.")
            draws = await self._draw(tapped, lease, 1 if routed else self.settings.draws)
            exempt = routed and target in self.settings.exempt_modules
            passing = [draw for draw in draws if (draw.passes or exempt) and not draw.record.thinking]
            if not passing:
                return None
            answer.adapter, answer.calibration = lease.name, lease.calibration
        return min(passing, key=lambda draw: draw.record.entropy_mean)

    async def redrawn(self, tapped: Tapped) -> Draw | None:
        """A response in place of an over-refusal, of the same adapter, kept from the openings that its refusals have: of
        those that pass and do not refuse the one of lowest mean entropy. None where there is none."""
        answer, params = tapped.answer, tapped.request.sampling_params
        with self.adapters.lease(None, answer.adapter) as lease:
            if lease.name != answer.adapter or answer.record.openings is None:
                return None
            count = self.settings.draws if params.temperature else 1
            draws = await self._draw(tapped, lease, count, without=forbidden(answer.record.openings.sequences))
        passing = [one for one in draws if one.passes and not one.record.opening_matched and not one.record.thinking]
        return min(passing, key=lambda draw: draw.record.entropy_mean, default=None)

    async def stop(self, identity: str) -> None:
        """Have the engine go on no longer with a response in whose place another was sent."""
        await self.engine_core.abort_requests_async([identity])

    async def _draw(self, tapped: Tapped, lease: Lease, count: int, without: Sequence[Tokens] = ()) -> list[Draw]:
        """Whole responses to the same prompt, which go through the engine but not through vLLM's output processor. They are
        the model's own: what the client steered the first one by is left out. without: what none of them says."""
        draws: dict[str, Draw] = {}
        loop, original = asyncio.get_running_loop(), tapped.request
        rule = tapped.answer.request.rule(lease.calibration)
        try:
            for number in range(count):
                params = unsteered(original.sampling_params)
                params._bad_words_token_ids = [list(words) for words in without] or None
                if params.temperature == 0 and count > 1:
                    params.temperature = 1.0  # greedy draws would all be the one that was touched
                params.seed = None if params.seed is None else params.seed + number + 1
                bound(params, lease.sense, tapped.answer.prompt_tokens)
                request = copy.copy(original)
                request.request_id = f"{original.request_id}-{'redraw' if without else 'draw'}{number}"
                request.sampling_params, request.lora_request = params, lease.lora_request
                record = self._record(lease.calibration)
                record.begin(tapped.answer.prompt_tokens)
                record.steered = steered(params)
                draw = Draw(record, tapped.entropy_only, loop.create_future(), self.tap.gatekeeper(rule, record))
                draws[request.request_id] = self.tap.draws[request.request_id] = draw
                await self.engine_core.add_request_async(request)
            await asyncio.wait_for(asyncio.gather(*(draw.ended for draw in draws.values())), DRAW_LIMIT_S)
        finally:
            left = [identity for identity, draw in draws.items() if not (draw.ended.done() and not draw.ended.cancelled())]
            for identity in draws:
                self.tap.draws.pop(identity, None)
            if left:
                await self.engine_core.abort_requests_async(left)
        return list(draws.values())

    def record_stats(self, stats) -> None:
        """What vLLM's own metrics count of a response that was drawn anew."""
        if self.logger_manager is not None:
            self.logger_manager.record(scheduler_stats=None, iteration_stats=stats)

    def shutdown(self, timeout: float | None = None) -> None:
        """Drain and stop; new requests are turned away with a 503 from here on. What the engine had not ended when its time
        was over ends as aborted: left to vLLM its clients would wait for ever, and the server for them."""
        self.draining = True
        super().shutdown(timeout=timeout)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._abandon)

    def _failed(self, error: Exception) -> None:
        """vLLM's engine is gone: an error to every client, unless we stopped it, which may be noticed here first."""
        if self.draining:
            self._abandon()
        else:
            self._fail(error)

    def _abandon(self) -> None:
        self.output_processor.abort_requests(list(self.output_processor.request_states), internal=True)


def forbidden(openings: Sequence[Tokens]) -> list[Tokens]:
    """As many of these openings as vLLM's runner forbids at once, the shortest first."""
    kept, room = list[Tokens](), envs.VLLM_MAX_BAD_WORDS_TOTAL_TOKENS
    for opening in sorted(openings, key=len)[: envs.VLLM_MAX_NUM_BAD_WORDS]:
        room -= len(opening)
        if room < 0:
            break
        kept.append(opening)
    return kept


def unguardable(request: Exchange, prompt: object, params: SamplingParams, beginnings: Beginnings) -> str | None:
    """Why a request that is to be guarded cannot be, in a sentence; None where it can, or is not to be."""
    if request.internal or not request.policy.enforces:
        return None
    if shape := unknown_shape(request, prompt):
        return f"{shape} cannot be guarded, and this request is to be: use another way."
    known = prompt if isinstance(prompt, Mapping) else {}
    if (tokens := known.get("prompt_token_ids")) is None or "prompt_embeds" in known:
        return "A prompt of embeddings cannot be guarded, and this request is to be: send text."
    if beginnings.moved(tokens, chat=request.path != COMPLETIONS):
        return (
            "An answer that the prompt begins, or whose turn it leaves open, cannot be guarded, and this request is to be: "
            "end the prompt where the assistant's turn begins (no continue_final_message or add_generation_prompt of false)."
        )
    if asks_of_the_prompt(params) and not request.sees_all:
        return "Logprobs of a prompt tell how near the guard's threshold is, and this key is not trusted: leave them out."
    return None


def unknown_shape(request: Exchange, prompt: object) -> str | None:
    """The name of a way of generating whose shape the guard does not know; else None."""
    if request.beam_search:
        return "Beam search"
    if isinstance(prompt, AsyncGenerator):
        return "Streamed input"
    return None if request.path in API_FORMATS else f"The route {request.path or 'of this request'}"
