"""The guarded engine: vLLM's AsyncLLM, with the live adapter attached and every response measured."""

from __future__ import annotations

import copy
import itertools
from collections.abc import AsyncGenerator

from vllm.lora.request import LoRARequest
from vllm.outputs import RequestOutput
from vllm.sampling_params import SamplingParams
from vllm.v1.engine.async_llm import AsyncLLM

from guard.openings import Openings
from guard.record import ResponseRecord
from serving.engine.adapters import Adapters, Lease
from serving.engine.probe import ENTROPY_ONLY, MARK
from serving.engine.tap import Tap, Watcher
from serving.engine.version import EngineError
from serving.traffic import Answer, Request, current


class Guarded(AsyncLLM):
    """An AsyncLLM (some of vLLM's routes insist on one) whose requests carry a measurement and hold an adapter lease."""

    adapters: Adapters
    tap: Tap
    draining = False

    async def guard(self, watcher: Watcher, adapters: Adapters) -> dict:
        """Install the probe in every worker and begin to measure; returns what the workers said of themselves."""
        self.adapters = adapters
        self._calls: dict[int, tuple[Request, int, Lease, int]] = {}
        self._handles = itertools.count(1)
        facts = await self.collective_rpc("sirl_install")
        self.tap = Tap(self.output_processor, self._opened, watcher)
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
        await self.remove_lora(lora_id)
        await self.set_openings(lora_id, None)

    async def set_openings(self, lora_id: int, openings: Openings | None) -> None:
        """Tell every worker the opening tree to measure for one LoRA id (0 is the base model)."""
        await self.collective_rpc("sirl_openings", args=(lora_id, openings.to_json() if openings else None))

    def _opened(self, handle: int, choice: int) -> Answer | None:
        """The answer a child request fills: choice indices run on over a request's prompts, as in OpenAI's API."""
        if (call := self._calls.get(handle)) is None:
            return None
        request, prompt, lease, n = call
        answer = Answer(request, prompt * n + choice, lease.name, ResponseRecord(lease.openings))
        request.answers.append(answer)
        return answer

    def generate(  # a plain method: prompts are numbered in the order of the calls, not of their first await
        self,
        prompt,
        sampling_params: SamplingParams,
        request_id: str,
        *,
        lora_request: LoRARequest | None = None,
        **kwargs,
    ) -> AsyncGenerator[RequestOutput, None]:
        request = current.get() or Request()
        index = request.next_prompt()
        return self._generate(request, index, prompt, sampling_params, request_id, lora_request, kwargs)

    async def _generate(self, request, index, prompt, params, request_id, lora_request, kwargs):
        handle = next(self._handles)
        params = copy.copy(params)
        only = params.logprobs is None and not params.logprob_token_ids
        params.extra_args = {**(params.extra_args or {}), MARK: handle, ENTROPY_ONLY: only}
        if only:
            params.logprobs = 0
        with self.adapters.lease(lora_request, request.adapter) as lease:
            self._calls[handle] = (request, index, lease, params.n)
            try:
                async for output in super().generate(prompt, params, request_id, lora_request=lease.lora_request, **kwargs):
                    yield output
            finally:
                self._calls.pop(handle, None)

    def shutdown(self, timeout: float | None = None) -> None:
        """Drain and stop; new requests are turned away with a 503 from here on."""
        self.draining = True
        super().shutdown(timeout=timeout)
