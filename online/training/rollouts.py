"""Rollouts: an update's samples, from the local model or from the engine that serves.

On-policy: the adapter of the step goes to the engine in a folder named by the digest of its weights, and answers carry the
digest of what the engine loaded; those of any other version are dropped.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Protocol

import httpx

from guard.errors import SirlError
from guard.openings import Tokens
from online.model.decoding import generate
from online.model.local_model import LocalModel
from online.model.sample import Sample
from online.state.directory import StateDir
from online.state.files import write_atomic

log = logging.getLogger("sirl")

PATH = "/guard/v1/rollouts"
REFUSED = 409
"""The status of an adapter that the engine does not load."""
PATIENCE_S = 300.0
"""What a batch may take in any case, its adapter's loading included."""
LEAST_PACE = 2.0
"""Tokens of responses a second, all of a batch together, under which an engine counts as stuck."""
LEAST_READ = 10.0
"""The same of prompts, each read once."""
WEIGHTS = "adapter_model.safetensors"


class RolloutError(SirlError):
    """The serving engine gave no rollouts, or not those of the adapter in training."""


class RolloutSource(Protocol):
    """Draws responses at temperature 1 from an adapter of a model, in order; `n` and `max_tokens`: of each prompt."""

    elsewhere: bool
    """Whether another engine draws, whose log-probabilities are not the trainer's to the bit."""

    def sample(
        self,
        llm: LocalModel,
        adapter: str,
        prompts: Sequence[Tokens],
        n: Sequence[int],
        *,
        max_tokens: Sequence[int],
        seed: int,
    ) -> list[Sample]: ...


class LocalRollouts:
    """The model itself draws, which is exactly reproducible."""

    elsewhere = False

    def sample(
        self,
        llm: LocalModel,
        adapter: str,
        prompts: Sequence[Tokens],
        n: Sequence[int],
        *,
        max_tokens: Sequence[int],
        seed: int,
    ) -> list[Sample]:
        with llm.adapter(adapter):
            return generate(llm, prompts, n, max_tokens=max_tokens, seed=seed)


class EngineRollouts:
    """The serving engine draws, at low priority and under a cap of its own (`serving.engine.rollouts`). What it draws is its
    own luck's: a seed changes nothing."""

    elsewhere = True

    def __init__(self, state: StateDir, url: str) -> None:
        self.folder, self.url, self._key = state.rollouts, url, state.internal_key()

    @classmethod
    def found(cls, state: StateDir) -> EngineRollouts | None:
        """The endpoint of this state directory, if one says that it runs."""
        try:
            return cls(state, str(json.loads(state.endpoint_path.read_text("utf-8"))["url"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def sample(
        self,
        llm: LocalModel,
        adapter: str,
        prompts: Sequence[Tokens],
        n: Sequence[int],
        *,
        max_tokens: Sequence[int],
        seed: int,
    ) -> list[Sample]:
        """Raises RolloutError where the engine does not answer, or answers from other weights."""
        version = self._publish(llm, adapter)
        samples: list[Sample] = []
        try:
            for kind in dict.fromkeys(zip(n, max_tokens, strict=True)):
                rows = [at for at, mine in enumerate(zip(n, max_tokens, strict=True)) if mine == kind]
                answer = self._ask(version, [prompts[row] for row in rows], *kind)
                answer.raise_for_status()
                found = answer.json()
                samples += [
                    Sample(rows[one["prompt"]], tuple(one["tokens"]), tuple(one["entropies"]), tuple(one["logprobs"]))
                    for one in found["samples"]
                    if found["adapter"] == version
                ]
        except (httpx.HTTPError, ValueError, KeyError, IndexError, TypeError) as error:
            cause = str(error) or type(error).__name__
            raise RolloutError(f"the serving engine at {self.url} gave no rollouts ({cause})") from None
        samples.sort(key=lambda sample: sample.prompt)
        if [sample.prompt for sample in samples] != [at for at, count in enumerate(n) for _ in range(count)]:
            raise RolloutError(f"the serving engine at {self.url} answered from other weights, or in part")
        return samples

    def refusal(self, llm: LocalModel, adapter: str, prompt: Tokens) -> str | None:
        """Why the engine does not serve an adapter as it is now, asked for one token; None where it does, or where it cannot
        be asked, which is said in the log."""
        version = self._publish(llm, adapter)
        try:
            answer = self._ask(version, [prompt], 1, 1)
            if answer.status_code == REFUSED:
                return str(answer.json()["error"]["message"])
            answer.raise_for_status()
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            cause = str(error) or type(error).__name__
            log.warning("whether the engine at %s serves such an adapter was not seen (%s)", self.url, cause)
        return None

    def _ask(self, version: str, prompts: Sequence[Tokens], n: int, max_tokens: int) -> httpx.Response:
        body = {"adapter": version, "prompts": [list(prompt) for prompt in prompts], "n": n, "max_tokens": max_tokens}
        limit = patience(prompts, n, max_tokens)
        return httpx.post(self.url + PATH, json=body, headers={"x-sirl-internal": self._key}, timeout=limit)

    def _publish(self, llm: LocalModel, adapter: str) -> str:
        """Put the adapter as it is now where the engine reads it; returns the digest of its weights."""
        staged = self.folder / "staged"
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(mode=0o700)
        llm.save_adapter(adapter, staged)
        version = digest(staged)
        if (self.folder / version).exists():
            shutil.rmtree(staged)
        else:
            for old in self.folder.iterdir():  # the step before
                if old != staged:
                    shutil.rmtree(old, ignore_errors=True)
            staged.rename(self.folder / version)
        return version


def patience(prompts: Sequence[Tokens], n: int, max_tokens: int) -> float:
    """Seconds that `n` responses to each of these prompts may take."""
    return PATIENCE_S + sum(map(len, prompts)) / LEAST_READ + len(prompts) * n * max_tokens / LEAST_PACE


def digest(folder: Path) -> str:
    """SHA-256 of an adapter's weights, 64 hex digits. Raises OSError."""
    return sha256((folder / WEIGHTS).read_bytes()).hexdigest()


def announce(state: StateDir, url: str | None) -> None:
    """Say where the endpoint of a state directory answers, or with None that it no longer does. Raises StateError."""
    if url is None:
        state.endpoint_path.unlink(missing_ok=True)
    else:
        write_atomic(state.endpoint_path, json.dumps({"url": url}))
