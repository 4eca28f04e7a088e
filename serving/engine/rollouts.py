"""Rollouts for the learner: internal traffic through the serving engine, behind all that clients ask."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from itertools import count
from typing import TYPE_CHECKING, Annotated, Protocol

from pydantic import BaseModel, ConfigDict, Field

from online.state.directory import StateDir
from online.training.rollouts import RolloutError, digest
from serving.engine.adapters import BASE, Adapters
from serving.request.exchange import Exchange, ServedAnswer, current

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.lora.request import LoRARequest
    from vllm.outputs import RequestOutput
    from vllm.sampling_params import SamplingParams

SHARE = 8
"""One of so many of a serving engine's sequences may be a rollout: priority orders what waits, but takes no slot away
again. A learner's own engine has all of them for it."""
UNSEEN_TOKENS = 512
"""Of an answer that nobody sees, at most."""
LOWEST = 1 << 30
"""vLLM's priority of a rollout; a client's is 0, and the smaller goes first."""


class RolloutRequest(BaseModel):
    """One batch: `n` responses to each prompt (token ids) from the adapter whose weights have this digest.

    It has no seed. On a GPU vLLM draws noise as wide as the vocabulary for each seeded request alone, one after another, and
    for all others at once. A seed fixes no draws of a busy engine anyway: the batch in which a token is computed changes its
    last digits.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    adapter: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    prompts: Annotated[list[Annotated[list[int], Field(min_length=1)]], Field(min_length=1, max_length=4096)]
    n: Annotated[int, Field(ge=1, le=256)] = 1
    max_tokens: Annotated[int, Field(ge=1)] = 64


class RolloutEngine(Protocol):
    """The engine's side."""

    vllm_config: VllmConfig

    def generate(
        self,
        prompt,
        sampling_params: SamplingParams,
        request_id: str,
        *,
        lora_request: LoRARequest | None = None,
        **kwargs,
    ) -> AsyncGenerator[RequestOutput, None]: ...

    async def cleanse(self) -> None: ...


class RolloutService:
    """Draws batches, never more responses at once than its share of the engine's sequences."""

    def __init__(self, engine: RolloutEngine, adapters: Adapters, state: StateDir, share: int = SHARE) -> None:
        self.engine, self.adapters, self.state = engine, adapters, state
        self.most = max(1, engine.vllm_config.scheduler_config.max_num_seqs // share)
        self._room, self._numbers = asyncio.Semaphore(self.most), count()

    async def draw(self, asked: RolloutRequest) -> dict:
        """{"adapter": digest of the weights that answered, "samples": [...]}, a sample a prompt and draw, in order.

        Raises RolloutError for an adapter that is not there, EngineError for one that cannot be loaded, and vLLM's own
        errors for a prompt that does not fit the model.
        """
        folder = self.state.rollouts / asked.adapter
        try:
            loaded = await asyncio.to_thread(digest, folder)
        except OSError as error:
            raise RolloutError(f"{folder} holds no adapter ({error.strerror}): write it there first.") from None
        wanted = [(at, prompt) for at, prompt in enumerate(asked.prompts) for _ in range(asked.n)]
        async with self.adapters.trial(folder) as adapter:
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(self._one(adapter, at, prompt, asked.max_tokens)) for at, prompt in wanted]
            except ExceptionGroup as failed:  # the rest were cancelled, and so aborted in the engine
                raise failed.exceptions[0] from None
        return {"adapter": loaded, "samples": [task.result() for task in tasks]}

    async def cleanse(self) -> None:
        """Rid the engine of what a broken adapter left in it."""
        await self.engine.cleanse()

    async def looked_at(self, prompt: Sequence[int]) -> ServedAnswer:
        """The base's first token on a prompt."""
        from vllm.sampling_params import SamplingParams

        return await self._asked(prompt, SamplingParams(max_tokens=1, temperature=0.0), BASE)

    async def answered_by(self, adapter: str, like: ServedAnswer) -> ServedAnswer:
        """What an adapter ("v<N>"; the live one where it is not loaded) says in the place of an answer that somebody got,
        with the same sampling and another seed."""
        params = like.params.clone()
        params.n, params.seed, params.logprobs, params.prompt_logprobs = 1, None, None, None
        params.max_tokens = min(params.max_tokens or UNSEEN_TOKENS, UNSEEN_TOKENS)
        return await self._asked(like.prompt_tokens, params, adapter)

    async def _asked(self, prompt: Sequence[int], params: SamplingParams, adapter: str) -> ServedAnswer:
        from vllm.sampling_params import RequestOutputKind

        params.output_kind = RequestOutputKind.FINAL_ONLY
        request = Exchange(internal=True, store=False, adapter=adapter)
        async with self._room:
            current.set(request)
            identity = f"sirl-look-{next(self._numbers)}"
            async for _ in self.engine.generate({"prompt_token_ids": list(prompt)}, params, identity, priority=LOWEST):
                pass
        (answer,) = request.answers
        return answer

    async def _one(self, adapter: LoRARequest, at: int, prompt: list[int], tokens: int) -> dict:
        """One response: tokens, and the exact entropy and log-probability of each in nats."""
        from vllm.sampling_params import RequestOutputKind, SamplingParams

        # Every field is named: what a model's generation_config asks for must not bend what is learned from.
        params = SamplingParams(
            n=1, temperature=1.0, top_p=1.0, top_k=0, min_p=0.0, presence_penalty=0.0, frequency_penalty=0.0,
            repetition_penalty=1.0, min_tokens=0, max_tokens=tokens, logprobs=0, ignore_eos=False,
            detokenize=False, output_kind=RequestOutputKind.FINAL_ONLY,
        )  # fmt: skip
        async with self._room:
            request = Exchange(internal=True, store=False)
            current.set(request)
            identity = f"sirl-rollout-{next(self._numbers)}"
            async for output in self.engine.generate(
                {"prompt_token_ids": prompt}, params, identity, lora_request=adapter, priority=LOWEST
            ):
                (said,) = output.outputs
        (answer,) = request.answers
        likely = [(step or {})[token].logprob for step, token in zip(said.logprobs or (), said.token_ids, strict=True)]
        return {"prompt": at, "tokens": answer.record.tokens, "entropies": answer.record.entropies, "logprobs": likely}
