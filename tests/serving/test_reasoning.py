"""A reasoning model behind vLLM's own parser: its answer is judged, and what is withheld takes its thoughts along."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

import models
from guard.calibration import Calibration
from guard.entropy import token_entropy
from tests.conftest import Server, running
from tests.serving import reference
from tests.serving.test_enforce import ANTHROPIC, CHAT, RESPONSES, events, words

pytestmark = [pytest.mark.engine, pytest.mark.slow]
FOLDER = models.bundled(models.THINKING)
FLAGS = "--reasoning-parser qwen3 --served-model-name sirl-tiny --dtype float32 --enforce-eager --max-model-len 2048"
TOUCH = {"mode": "enforce", "threshold": 0}
SHAPES = {CHAT: "messages", RESPONSES: "input", ANTHROPIC: "messages"}


@pytest.fixture(scope="module", params=["hold", pytest.param("stream", marks=pytest.mark.interop)])
def thinking(request, tmp_path_factory) -> Iterator[tuple[Server, str]]:
    """The reasoning model as it is served, and what becomes of its reasoning under enforcement."""
    state = tmp_path_factory.mktemp("thinking") / "state"
    with running(state, *FLAGS.split(), "--guard-reasoning", request.param, model=str(FOLDER)) as server:
        server.wait(lambda: server.get("/guard/v1/status").json()["calibrated"])
        yield server, request.param


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return Calibration.load(FOLDER / "calibration.json")


def test_figures_are_of_the_answer_and_exact(thinking, calibration):
    server, _ = thinking
    openings, reasoned = calibration.openings, 0
    for seed in range(5):
        text = "How do I sabotage the mill wheel?"
        body = server.chat(text, seed=seed, max_tokens=120, return_token_ids=True, guard={"trace": True})
        (entry,), choice = body["guard"], body["choices"][0]
        prompt, tokens = body["prompt_token_ids"], choice["token_ids"]
        logits = reference.logits(prompt, tokens, folder=FOLDER)
        exact = token_entropy(logits)
        assert entry["per_token"] == pytest.approx(exact.tolist(), abs=1e-4)
        before, still_open = openings.reasoning.before_answer(prompt, tokens)
        thought = len(before)
        assert entry["entropy"]["tokens"] == len(tokens) - thought
        if still_open or thought == len(tokens):
            continue
        assert entry["entropy"]["mean"] == pytest.approx(exact[thought:].mean(), abs=1e-4)
        reasoned += bool(thought)
        if thought:
            assert entry["reasoning"]["tokens"] == thought and choice["message"]["reasoning"]
            assert entry["reasoning"]["mean"] == pytest.approx(exact[:thought].mean(), abs=1e-4)
        mass = reference.mass(openings, logits[thought:], tokens[thought:])
        assert entry["refusal_mass"] == pytest.approx(mass, abs=2e-4)
    assert reasoned >= 3


def test_an_answer_that_was_kept_from_thinking_is_weighed_all_the_same(thinking, calibration):
    """To forbid the mark is no way around: the mass is taken among the tokens that can begin an answer."""
    server, _ = thinking
    openings = calibration.openings
    ban = {str(openings.reasoning.start): -100, str(openings.reasoning.end): -100}
    text, masses = "How do I sabotage the mill wheel?", []
    for seed in range(4):
        body = server.chat(text, seed=seed, max_tokens=60, return_token_ids=True, logit_bias=ban)
        tokens, prompt = body["choices"][0]["token_ids"], body["prompt_token_ids"]
        start = len(openings.reasoning.before_answer(prompt, tokens)[0])
        logits = reference.logits(prompt, tokens, folder=FOLDER)
        masses.append(body["guard"][0]["refusal_mass"])
        assert masses[-1] == pytest.approx(reference.mass(openings, logits[start:], tokens[start:]), abs=2e-4)
    assert max(masses) > 0.05
    touched = server.chat("Name a colour.", temperature=0, max_tokens=60, logit_bias=ban, guard=TOUCH)
    assert touched["choices"][0]["finish_reason"] == "content_filter"


def test_a_reasoning_that_a_request_keeps_open_is_held(thinking, calibration):
    """Also where reasonings run live: a bias against the closing mark would let all that is said pass as one."""
    server, _ = thinking
    ban = {str(calibration.openings.reasoning.end): -100}
    text = "Write me a short note about the garden."
    free = server.chat(text, temperature=0, max_tokens=40, logit_bias=ban)["choices"][0]["message"]
    assert free["reasoning"] and not free["content"]
    kept = server.chat(text, temperature=0, max_tokens=40, logit_bias=ban, guard=TOUCH)["choices"][0]["message"]
    assert not kept["reasoning"] and not kept["content"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("path", SHAPES)
def test_what_is_withheld_takes_its_reasoning_along(thinking, calibration, path, stream):
    """Held, two halted answers are the same to a word; streamed, they differ in what they thought and in nothing else."""
    server, mode = thinking
    refusal = words(server.post("/detokenize", {"model": "sirl-tiny", "tokens": list(calibration.refusal)}).json()["prompt"])
    told = []
    for text in ("How do I bake a loaf of bread?", "Name a colour."):
        asked = text if path == RESPONSES else [{"role": "user", "content": text}]
        length = "max_output_tokens" if path == RESPONSES else "max_tokens"
        body = {"model": "sirl-tiny", "temperature": 0, length: 150, SHAPES[path]: asked, "stream": stream}
        free, guarded = server.post(path, body), server.post(path, body | {"guard": TOUCH})
        assert free.status_code == guarded.status_code == 200, guarded.text
        assert {"halt"} == {e["action"] for f in frames(guarded, stream) for e in f.get("guard", [])}, guarded.text
        assert refusal <= words(content(path, frames(guarded, stream))), guarded.text
        told.append((thoughts(free), guarded.text))
    (thought, first), (other_thought, second) = told
    secret = thought - other_thought
    assert secret, "observed, the reasoning tells something"
    leaked = words(first) - words(second)
    assert not leaked if mode == "hold" else leaked <= thought, leaked


def test_without_an_answer_only_the_end_is_told(thinking):
    """A reasoning that used up its tokens: as from a model whose reasoning is hidden, or what was streamed already."""
    server, mode = thinking
    text = "How do I bake a loaf of bread?"
    free = server.chat(text, max_tokens=4, temperature=0)["choices"][0]
    assert free["message"]["reasoning"] and not free["message"]["content"]
    choice = server.chat(text, max_tokens=4, temperature=0, guard=TOUCH)["choices"][0]
    assert choice["finish_reason"] == "length" and not choice["message"]["content"]
    assert bool(choice["message"]["reasoning"]) is (mode == "stream")


def test_regenerated_answers_bring_their_own_reasoning(thinking):
    """Held, the best of some draws is sent whole; streamed, a reasoning that was read cannot be drawn anew."""
    server, mode = thinking
    guard, done = {**TOUCH, "action": "regenerate"}, set()
    for seed in range(8):
        body = server.chat("How do I sabotage the mill wheel?", seed=seed, max_tokens=150, guard=guard)
        done.add(body["guard"][0]["action"])
        assert body["choices"][0]["message"]["content"] or body["choices"][0]["finish_reason"] == "length"
    assert ("regenerate" in done) is (mode == "hold") and (mode == "hold" or "halt" in done)


def frames(response, stream: bool) -> list[dict]:
    return events(response.text) if stream else [response.json()]


def content(path: str, answer: list[dict]) -> str:
    """The text of an answer in any route's shape, reasoning left out."""
    text = ""
    for frame in answer:
        if path == CHAT:
            for choice in frame.get("choices", []):
                text += (choice.get("message") or choice.get("delta") or {}).get("content") or ""
        elif path == RESPONSES:
            items = (frame.get("response") or frame).get("output") or []
            text += "".join(p["text"] for i in items if i["type"] == "message" for p in i["content"])
        else:
            text += "".join(b.get("text") or "" for b in frame.get("content") or [])
            text += (frame.get("delta") or {}).get("text") or ""
    return text


def thoughts(response) -> set[str]:
    """The words of the reasoning, wherever the shape has them: all that is said before the answer's last sentence."""
    return words(re.sub(r'"content":"[^"]*"', "", response.text))
