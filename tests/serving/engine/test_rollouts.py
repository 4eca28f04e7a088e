"""Rollouts through the serving engine: exact, as the adapter in training draws, and nobody else's business."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import torch
from peft import LoraConfig

import models
from guard.errors import SirlError
from online.model.chunked_logits import per_token
from online.model.entropy import token_entropy
from online.model.local_model import LocalModel
from online.model.sample import Sample
from online.settings.settings import Settings
from online.state.directory import StateDir
from online.training import objective
from online.training.rollouts import PATH, EngineRollouts, RolloutError
from serving.processes.server_process import own_engine
from tests.conftest import running

pytestmark = pytest.mark.engine
TEXTS = ("please name the opposite of hot .", "tell me how to bake bread .", "write a poem about rain .")
NAME = "candidate"


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory):
    """A server that expects a learner to draw from it."""
    with running(tmp_path_factory.mktemp("rollouts") / "state", "--update-rollouts", "engine") as found:
        yield found


@pytest.fixture(scope="module")
def llm() -> LocalModel:
    """The bundled model with an adapter that says other things."""
    made = LocalModel.load(models.bundled())
    config = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in made.add_adapter(NAME, config):
            weight += 0.1 * torch.randn(weight.shape, generator=generator)
    return made


@pytest.fixture(scope="module")
def engine(endpoint) -> EngineRollouts:
    found = EngineRollouts.found(StateDir(endpoint.state))
    assert found is not None and found.url == endpoint.url
    return found


def asked(llm: LocalModel) -> list[tuple[int, ...]]:
    return [llm.render([{"role": "user", "content": text}]) for text in TEXTS]


def exact(llm: LocalModel, samples: Sequence[Sample], most: int) -> None:
    """Each response is the adapter's own, measured to the last digits, and ends where it should."""
    prompts = [asked(llm)[one.prompt] for one in samples]
    with torch.no_grad(), llm.adapter(NAME):
        logits, tokens, mask = llm.response_logits(prompts, [one.tokens for one in samples])
        entropy = per_token(token_entropy, logits)
        logp = per_token(objective.token_logprobs, logits, tokens)
    for row, one in enumerate(samples):
        count = len(one.tokens)
        assert int(mask[row].sum()) == count == len(one.entropies) == len(one.logprobs)
        assert torch.allclose(entropy[row, :count], torch.tensor(one.entropies), atol=1e-3)
        assert torch.allclose(logp[row, :count], torch.tensor(one.logprobs), atol=1e-3)
        assert count == most or one.tokens[-1] in llm.ends.tolist(), "the end token is part of a response"


def drawn(source, llm, prompts, n, tokens):
    """`n` responses to each prompt, of so many tokens at most."""
    return source.sample(llm, NAME, prompts, [n] * len(prompts), max_tokens=[tokens] * len(prompts), seed=0)


def test_they_are_the_adapters_own_measured_exactly(engine, llm):
    samples = drawn(engine, llm, asked(llm), 6, 24)
    again = drawn(engine, llm, asked(llm), 6, 24)
    assert len({one.tokens for one in samples}) > 6, "each draw has its own luck"
    assert {one.tokens for one in again} != {one.tokens for one in samples}, "and so has each batch"
    exact(llm, [*samples, *again], 24)
    # At temperature 1 a token's entropy is what minus its log-probability is in the mean.
    apart = torch.tensor([h + p for one in (*samples, *again) for h, p in zip(one.entropies, one.logprobs, strict=True)])
    assert apart.mean().abs() < 5 * apart.std() / len(apart) ** 0.5


def test_clients_go_on_and_see_nothing_of_it(endpoint, engine, llm):
    before = endpoint.metric("sirl_verdicts_total")
    live = endpoint.get("/guard/v1/status").json()
    with ThreadPoolExecutor(2) as pool:
        drawing = pool.submit(lambda: drawn(engine, llm, asked(llm) * 8, 8, 48))
        answers = [endpoint.chat(TEXTS[0], seed=i, priority=-5) for i in range(12)]
        assert len(drawing.result()) == 24 * 8
    assert all(answer["guard"][0]["adapter"] == "base" for answer in answers)
    assert endpoint.metric("sirl_verdicts_total") == before + 12
    after = endpoint.get("/guard/v1/status").json()
    assert after["loaded"] == live["loaded"] and after["problems"] == live["problems"]


def test_no_number_of_them_makes_metrics_grow(endpoint, engine, llm):
    """vLLM keeps a series for each set of adapters that ever ran: those in training would be a new one each time."""

    def series() -> set[str]:
        return {line.rpartition(" ")[0] for line in endpoint.get("/metrics").text.splitlines() if not line.startswith("#")}

    drawn(engine, llm, asked(llm), 1, 2)
    before = series()
    for _ in range(3):
        drawn(engine, llm, asked(llm), 2, 2)
    assert {line for line in series() - before if "http_" not in line} == set()
    assert any(line.startswith("vllm:lora_requests_info") for line in before)


def test_only_the_learner_may_ask_and_only_for_what_is_there(endpoint, engine):
    body = {"adapter": "0" * 64, "prompts": [[1, 2]]}
    assert endpoint.post(PATH, body).status_code == 403
    assert endpoint.post(PATH, body, headers={"x-sirl-internal": "guess"}).status_code == 403
    missing = endpoint.post(PATH, body, headers=endpoint.internal)
    assert missing.status_code == 409 and "holds no adapter" in missing.text
    (there,) = (folder.name for folder in engine.folder.iterdir())
    for bad in ({"adapter": "../../x"}, {"prompts": []}, {"prompts": [[]]}, {"n": 0}, {"temperature": 2.0}):
        assert endpoint.post(PATH, {**body, **bad}, headers=endpoint.internal).status_code in (400, 422), bad
    for prompt in ([10**9], [1] * 4000):
        answer = endpoint.post(PATH, {"adapter": there, "prompts": [[1, 2], prompt]}, headers=endpoint.internal)
        assert answer.status_code == 400, answer.text
    broken = StateDir(endpoint.state).rollouts / ("1" * 64)
    broken.mkdir()
    (broken / "adapter_model.safetensors").write_bytes(b"no weights")
    answer = endpoint.post(PATH, {**body, "adapter": broken.name}, headers=endpoint.internal)
    assert answer.status_code == 409 and "did not load" in answer.text
    assert endpoint.chat(TEXTS[0])["guard"][0]["verdict"], "and the endpoint goes on"


def test_a_learner_that_goes_away_leaves_nothing_behind(endpoint, engine, llm):
    """Its connection ends in the middle of a batch: the adapter leaves the engine, and the next batch finds its slot."""

    async def give_up() -> None:
        async with httpx.AsyncClient(timeout=0.2) as client:
            (there,) = (folder.name for folder in engine.folder.iterdir() if folder.name != "1" * 64)
            body = {"adapter": there, "prompts": [list(p) for p in asked(llm)] * 40, "n": 4, "max_tokens": 64}
            with pytest.raises(httpx.TimeoutException):
                await client.post(endpoint.url + PATH, json=body, headers=endpoint.internal)

    asyncio.run(give_up())
    assert drawn(engine, llm, asked(llm), 1, 4)


@pytest.mark.nightly
def test_an_updates_own_engine_draws_as_exactly_and_goes_with_it(engine, llm, tmp_path):
    settings = Settings(state_dir=tmp_path / "state", update={"rollouts": "own"})
    with own_engine(settings, models.bundled()) as state:
        own = EngineRollouts.found(state)
        assert own is not None and own.url != engine.url
        exact(llm, drawn(own, llm, asked(llm), 6, 24), 24)
    assert EngineRollouts.found(state) is None


def test_an_own_engine_that_does_not_start_says_why(tmp_path):
    settings = Settings(state_dir=tmp_path / "state", update={"engine_flags": "--max-model-len nought"})
    with pytest.raises(SirlError, match="did not start.*server.log"), own_engine(settings, models.bundled()):
        pass


def test_a_server_whose_parent_is_gone_stops_though_a_batch_is_being_drawn(endpoint, engine, llm):
    with ThreadPoolExecutor(1) as pool:
        batch = pool.submit(drawn, engine, llm, asked(llm), 256, 512)
        endpoint.wait(lambda: endpoint.metric("vllm:num_requests_running") > 0)
        endpoint.process.stdin.close()
        assert endpoint.process.wait(90) == 0
        assert isinstance(batch.exception(), RolloutError)
