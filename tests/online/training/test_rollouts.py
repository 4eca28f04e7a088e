"""Where rollouts come from: an engine's are told from the learner's own, and one that fails does not end an update."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch

from online.model.decoding import generate
from online.model.sample import Sample
from online.state.directory import StateDir
from online.training.rollouts import PATIENCE_S, EngineRollouts, LocalRollouts, RolloutError, announce, digest, patience
from online.training.trainer import ADAPTER, Trainer
from tests.online.training.test_trainer import tiny_trainer


class Answering(BaseHTTPRequestHandler):
    """An endpoint that draws by the model of its server, and bends what it says as a test wants."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        answer = self.server.answer(asked)  # type: ignore[attr-defined]
        body = json.dumps(answer).encode()
        self.send_response(answer["status"] if "status" in answer else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[tuple[Trainer, EngineRollouts, ThreadingHTTPServer]]:
    """A trainer whose rollouts come over HTTP from its own model. On one thread, as updates are by default: how sums are
    split among threads changes last digits, which AdamW's first steps blow up where a gradient is nearly nothing."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    state, trainer = StateDir(tmp_path / "state"), tiny_trainer(preset="sampled")
    server, contested = ThreadingHTTPServer(("127.0.0.1", 0), Answering), list[int]()

    def answer(asked: dict) -> dict:
        with trainer.llm.adapter(ADAPTER):
            prompts = [tuple(p) for p in asked["prompts"]]
            luck, tokens = trainer._luck().initial_seed(), asked["max_tokens"]  # as the trainer would draw itself
            if asked["n"] == trainer.settings.group_size:
                contested.append(len(prompts))
            start = 0 if asked["n"] == trainer.settings.group_size else contested[-1]  # anchors come after
            numbers = range(start, start + len(prompts))
            drawn = generate(trainer.llm, prompts, asked["n"], max_tokens=tokens, seed=luck, numbers=numbers)
        assert digest(state.rollouts / asked["adapter"]) == asked["adapter"]
        return {"adapter": asked["adapter"], "samples": [vars_of(one) for one in drawn]}

    server.answer = answer  # type: ignore[attr-defined]
    Thread(target=server.serve_forever, daemon=True).start()
    announce(state, f"http://127.0.0.1:{server.server_port}")
    found = EngineRollouts.found(state)
    assert found is not None
    trainer.rollouts = found
    yield trainer, found, server
    server.shutdown()
    server.server_close()
    torch.set_num_threads(threads)


def vars_of(sample: Sample) -> dict:
    return {name: getattr(sample, name) for name in ("prompt", "tokens", "entropies", "logprobs")}


def test_the_same_draws_teach_the_same_adapter_wherever_they_are_drawn(endpoint) -> None:
    trainer, engine, _ = endpoint
    alone = tiny_trainer(preset="sampled")
    for _ in range(3):
        seen, own = trainer.advance(), alone.advance()
        assert seen["mismatch"] <= seen["mismatch_max"] < 1e-5 and "mismatch" not in own
        assert seen["entropy"] == pytest.approx(own["entropy"])
    pairs = zip(trainer._parameters, alone._parameters, strict=True)
    apart = torch.cat([(here - there).abs().flatten() for here, there in pairs])
    # Where a gradient is nearly nothing its last digits, which differ from CPU to CPU, decide the direction of AdamW's step.
    assert (apart > 1e-5).float().mean() < 1e-3 and apart.max() < 1e-4
    assert len(list(engine.folder.iterdir())) == 1, "earlier steps' adapters are to be removed"


def test_log_probabilities_that_are_off_are_seen_and_weighed(endpoint) -> None:
    trainer, _, server = endpoint
    honest = server.answer

    def off(asked: dict) -> dict:
        answer = honest(asked)
        for one in answer["samples"]:
            one["logprobs"] = [value - 0.1 for value in one["logprobs"]]
        return answer

    server.answer = off
    assert trainer.advance()["mismatch"] == pytest.approx(0.1, abs=1e-3)


@pytest.mark.parametrize(
    "bent",
    [
        lambda answer: {**answer, "adapter": "0" * 64},
        lambda answer: {**answer, "samples": answer["samples"][1:]},
        lambda answer: {"error": "no"},
        lambda answer: [],
    ],
    ids=["other weights", "in part", "an error", "nonsense"],
)
def test_what_is_not_of_this_adapter_is_dropped_and_the_learner_draws(endpoint, bent, caplog) -> None:
    trainer, engine, server = endpoint
    honest = server.answer
    server.answer = lambda asked: bent(honest(asked))
    with pytest.raises(RolloutError, match="127.0.0.1"):
        engine.sample(trainer.llm, ADAPTER, trainer.selection.prompts[:2], [2, 2], max_tokens=[4, 4], seed=1)
    assert "refused" in trainer.advance() and isinstance(trainer.rollouts, LocalRollouts)
    assert "from step 1 on" in caplog.text


def test_no_endpoint_is_found_where_none_says_so(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    assert EngineRollouts.found(state) is None
    announce(state, "http://127.0.0.1:9")
    found = EngineRollouts.found(state)
    assert found is not None and found.url.endswith(":9")
    trainer = tiny_trainer()
    with pytest.raises(RolloutError):
        found.sample(trainer.llm, ADAPTER, trainer.selection.prompts[:1], [1], max_tokens=[2], seed=0)
    announce(state, None)
    assert EngineRollouts.found(state) is None
    state.endpoint_path.write_text("{")
    assert EngineRollouts.found(state) is None


def test_an_engine_has_time_by_what_it_is_asked_for() -> None:
    """A step of the defaults: eight responses of 64 tokens to each of eight prompts, here of 1,024 tokens."""
    asked = [(1,) * 1024] * 8
    assert patience(asked, 8, 64) == pytest.approx(PATIENCE_S + 8 * 1024 / 10 + 8 * 8 * 64 / 2)
    assert patience(asked, 8, 64) > patience(asked[:4], 8, 64) > patience(asked[:4], 1, 3) > PATIENCE_S


@pytest.mark.parametrize(
    ("answer", "reason", "told"),
    [
        ({"status": 409, "error": {"message": "it did not load."}}, "it did not load.", ""),
        ({"adapter": "a", "samples": []}, None, ""),
        ({"status": 503, "error": {"message": "draining"}}, None, "was not seen"),
    ],
    ids=["refused", "served", "not asked"],
)
def test_an_engine_says_whether_it_serves_such_an_adapter(
    endpoint, answer: dict, reason: str | None, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    trainer, engine, server = endpoint
    server.answer = lambda asked: answer
    assert engine.refusal(trainer.llm, ADAPTER, (5, 6)) == reason and told in caplog.text
