"""The harm sense in a real engine: what it reads is what a forward pass of the prompt gives, however the prompt is read."""

from __future__ import annotations

import dataclasses
import json
import math
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoTokenizer, Gemma2Config, Gemma2ForCausalLM, GPT2Config, GPT2LMHeadModel

import models
from benchmarks import adapters
from guard.calibration import Calibration
from guard.sense import Place, Sense, TurnEnd
from models.recipe import store
from online.calibration.beginnings import common_end
from online.model.fingerprint import fingerprint
from online.registry.registry import Registry
from online.state.directory import StateDir
from tests.conftest import running
from tests.serving import reference
from tests.serving.test_exact import PROMPTS

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's, when vLLM is imported
TOLERANCE = 1e-3
"""Log-odds."""
LONG = " ".join([*PROMPTS, "one two three one two three one two"] * 4)
STEP = ["--max-num-batched-tokens", "64"]
"""Of which the long prompt takes several."""
NGRAM = json.dumps({"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 3, "prompt_lookup_min": 1})
PLAIN = "--served-model-name sirl-tiny --dtype float32 --max-model-len 2048 --max-num-seqs 64".split()


@cache
@torch.no_grad()
def stream(prompt: tuple[int, ...], folder: Path, adapter: Path | None = None) -> dict[int, np.ndarray]:
    """What leaves each decoder layer at each token of a prompt, by hooks: transformers gives the last one normed."""
    model = reference.model(folder, adapter)
    decoder = model.get_base_model().model if adapter else model.base_model
    layers, taken = decoder.h if hasattr(decoder, "h") else decoder.layers, {}

    def take(number: int):
        return lambda module, given, out: taken.update({number: (out[0] if isinstance(out, tuple) else out)[0].numpy()})

    hooks = [layer.register_forward_hook(take(number)) for number, layer in enumerate(layers, 1)]
    states = model(torch.tensor([prompt]), output_hidden_states=True).hidden_states
    for hook in hooks:
        hook.remove()
    assert all(np.array_equal(taken[number], states[number][0]) for number in range(1, len(layers)))
    return taken


def sense_of(folder: Path, layers: tuple[int, ...], seed: int = 0) -> Sense:
    """A read-out of random weights whose log-odds are a few units apart over the prompts."""
    tokenizer, rng = AutoTokenizer.from_pretrained(folder), np.random.default_rng(seed)
    options = {"add_generation_prompt": True, "return_dict": False}
    asked = [tokenizer.apply_chat_template([{"role": "user", "content": x}], **options) for x in (*PROMPTS, LONG, "7?")]
    tail = common_end(list(map(tuple, asked)))
    assert len(tail) >= 2
    end = TurnEnd(tail, frozenset(tail) & frozenset(tokenizer.get_added_vocab().values()))
    states = np.array(
        [[[stream(tuple(prompt), folder)[layer][at] for layer in layers] for at in (-1, -1 - len(tail))] for prompt in asked]
    )
    weights = (rng.standard_normal(states.shape[1:]) / np.sqrt(states[0].size)).astype(np.float32)
    read = (states * weights).sum((1, 2, 3))
    weights /= max(read.std(), 0.05)
    return Sense(layers, weights, float(-(states * weights).sum((1, 2, 3)).mean()), places=get_args(Place), turn_end=end)


def log_odds(sense: Sense, prompt: list[int], folder: Path, adapter: Path | None = None) -> float:
    states = stream(tuple(prompt), folder, adapter)
    behind = len(sense.turn_end.tokens)
    assert tuple(prompt[-behind:]) == sense.turn_end.tokens
    return sense.bias + sum(
        float(states[layer][at] @ row)
        for at, rows in zip((-1, -1 - behind), sense.weights, strict=True)
        for layer, row in zip(sense.layers, rows, strict=True)
    )


def calibrate(path: Path, sense: Sense | None, folder: Path | None = None, adapter: str = "base") -> None:
    """Write the bundled model's calibration with a sense, for a model and adapter."""
    own = Calibration.load(models.bundled() / "calibration.json")
    model = own.model if folder is None else fingerprint(folder)
    dataclasses.replace(own, model=model, adapter=adapter, sense=sense).save(path)


def check(body: dict, sense: Sense, folder: Path, adapter: Path | None = None) -> None:
    """Hold what was read for every choice against the reference: a probability of six decimals is told."""
    expected = log_odds(sense, body["prompt_token_ids"], folder, adapter)
    for entry in body["guard"]:
        p = entry["harm"]
        rounding = 1e-6 / (p * (1 - p))
        assert rounding < TOLERANCE, "the sense of this test reads too large a number"
        assert math.log(p / (1 - p)) == pytest.approx(expected, abs=TOLERANCE + rounding)


def answers(server, variants: list[dict], texts=(*PROMPTS, LONG), **options) -> list[dict]:
    """Every text with every variant at once."""
    jobs = [
        (text, {"max_tokens": 6, "return_token_ids": True, **variant, **options}) for text in texts for variant in variants
    ]
    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(lambda job: server.chat(job[0], **job[1]), jobs))


@pytest.fixture(scope="module")
def sense() -> Sense:
    return sense_of(models.bundled(), (1, 3, 4))


@pytest.fixture(scope="module")
def sensing(tmp_path_factory, sense):
    """The bundled model with a sense, and steps that long prompts do not fit into."""
    state = tmp_path_factory.mktemp("sensing") / "state"
    calibrate(state / "registry" / "base" / "calibration.json", sense)
    with running(state, *STEP) as server:
        server.wait(lambda: server.get("/guard/v1/status").json()["calibrated"])
        yield server


@pytest.mark.engine
def test_it_is_exact_however_a_prompt_is_read(sensing, sense):
    """Batched, in chunks, from the prefix cache, for several choices, and beside logprobs that clients asked for."""
    variants = [{}, {"n": 2, "temperature": 1.0}, {"logprobs": True, "top_logprobs": 3}, {"max_tokens": 1}]
    bodies = [body for _ in range(2) for body in answers(sensing, variants)]
    assert max(len(body["prompt_token_ids"]) for body in bodies) > 2 * 64
    assert len({len(body["guard"]) for body in bodies}) == 2
    for body in bodies:
        check(body, sense, models.bundled())
        for choice in body["choices"]:
            if asked := choice["logprobs"]:
                assert all(len(token["top_logprobs"]) == 3 for token in asked["content"])
    assert sensing.metric("vllm:prefix_cache_hits_total") > 0
    assert sensing.metric("sirl_harm_log_odds_count") == sum(len(body["guard"]) for body in bodies)


@pytest.mark.engine
def test_it_is_exact_where_the_users_words_end_in_a_cached_block(sensing, sense):
    """Prompts that end just behind a block's end: asked twice, for two choices, and before that as the beginning of a longer
    one, which brings the block with their words' end into the cache and has no place there."""
    tail, hits = len(sense.turn_end.tokens), sensing.metric("vllm:prefix_cache_hits_total")
    lengths = {
        len(sensing.chat("a" + " one" * n, max_tokens=1, return_token_ids=True)["prompt_token_ids"]): n for n in (1, 2)
    }
    (short, first), (long, second) = sorted(lengths.items())
    assert (long - short, second - first) == (1, 1), "a word is a token"
    for behind in range(1, tail + 2):
        text = "a" + " one" * (first + 128 + behind - short)  # blocks have 16 tokens or 128
        sensing.chat(text + " one one one", max_tokens=1)
        bodies = [sensing.chat(text, max_tokens=1, n=n, temperature=1.0, return_token_ids=True) for n in (1, 2)]
        for body in bodies:
            assert len(body["prompt_token_ids"]) == 128 + behind
            check(body, sense, models.bundled())
    assert sensing.metric("vllm:prefix_cache_hits_total") > hits


@pytest.mark.engine
def test_it_reads_the_stream_of_the_adapter_that_answers(sensing, sense, tmp_path):
    """By the base's sense, where the adapter's calibration has none, and by its own, where it has one."""
    registry = Registry(StateDir(sensing.state), fingerprint(models.bundled()))
    version = registry.import_adapter(adapters.make(tmp_path / "lora", 1), base_dir=models.bundled(), max_rank=16)
    name, folder = f"v{version}", registry.path(version)
    calibrate(registry.calibration_path(name), None, adapter=name)
    assert sensing.post(f"/guard/v1/adapters/{name}/pin", {}).status_code == 200
    models_of = lambda: {model["id"] for model in sensing.get("/v1/models").json()["data"]}  # noqa: E731
    sensing.wait(lambda: f"sirl-tiny@{name}" in models_of())
    variants = [{"model": "sirl-tiny@base"}, {"model": f"sirl-tiny@{name}"}]
    far = 0.0
    for body, by_adapter in zip(answers(sensing, variants), [False, True] * 5, strict=True):
        assert body["guard"][0]["adapter"] == (name if by_adapter else "base")
        check(body, sense, models.bundled(), folder if by_adapter else None)
        base, moved = (log_odds(sense, body["prompt_token_ids"], models.bundled(), own) for own in (None, folder))
        far = max(far, abs(base - moved))
    assert far > 100 * TOLERANCE, "the adapter of this test must move the stream"
    own = sense_of(models.bundled(), (2, 3), seed=5)
    calibrate(registry.calibration_path(name), own, adapter=name)
    expected = log_odds(own, body["prompt_token_ids"], models.bundled(), folder)
    ask = lambda: sensing.chat(LONG, max_tokens=2, model=f"sirl-tiny@{name}")["guard"][0]["harm"]  # noqa: E731
    sensing.wait(lambda: abs(math.log(1 / ask() - 1) + expected) < 2 * TOLERANCE)


@pytest.mark.engine
def test_where_no_sense_is_calibrated_there_is_none(server):
    assert server.chat(PROMPTS[0], max_tokens=2)["guard"][0]["harm"] is None


@pytest.mark.engine
@pytest.mark.nightly
def test_it_is_exact_under_speculation(tmp_path, sense):
    calibrate(tmp_path / "state" / "registry" / "base" / "calibration.json", sense)
    with running(tmp_path / "state", "--max-num-batched-tokens", "320", "--speculative-config", NGRAM) as server:
        server.wait(lambda: server.get("/guard/v1/status").json()["calibrated"])
        for body in answers(server, [{}, {"n": 2}], max_tokens=40):
            check(body, sense, models.bundled())
        assert server.metric("vllm:spec_decode_num_accepted_tokens_total") > 0


def tiny(kind: str, tokenizer) -> torch.nn.Module:
    """A model of random weights whose architecture hands out no auxiliary hidden states in vLLM."""
    ids = {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.eos_token_id}
    torch.manual_seed(0)
    if kind == "one tensor":
        return GPT2LMHeadModel(GPT2Config(n_positions=2048, n_embd=128, n_layer=4, n_head=2, **ids))
    sizes = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4, "head_dim": 64, "sliding_window": 1024}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "query_pre_attn_scalar": 64, "attn_logit_softcapping": None}
    return Gemma2ForCausalLM(Gemma2Config(max_position_embeddings=2048, pad_token_id=0, **sizes, **heads, **ids))


@pytest.mark.engine
@pytest.mark.nightly
@pytest.mark.parametrize("kind", ["one tensor", "a pair"])
def test_elsewhere_hooks_read_an_eager_engine(tmp_path, kind):
    """Layers that return the stream (GPT-2) and such that leave the residual's addition to the next norm (Gemma 2)."""
    tokenizer, folder = AutoTokenizer.from_pretrained(models.bundled()), tmp_path / "model"
    store.save(tiny(kind, tokenizer), tokenizer, folder)
    own = sense_of(folder, (1, 4))
    calibrate(tmp_path / "state" / "registry" / "base" / "calibration.json", own, folder)
    flags = [*PLAIN, *STEP, "--enforce-eager", "--no-enable-lora"]
    with running(tmp_path / "state", *flags, model=str(folder)) as server:
        server.wait(lambda: server.get("/guard/v1/status").json()["calibrated"])
        for body in answers(server, [{}, {"n": 2}]):
            check(body, own, folder)


class Layer(nn.Module):
    """A decoder layer, or a norm, that does nothing."""

    def forward(self, output):
        return output


def runner(model: nn.Module | None = None, *, eager: bool = True, wanted: tuple[int, ...] = (), **about) -> SimpleNamespace:
    """What a residual stream asks of a runner whose model has two layers."""
    from vllm.config import CompilationMode, CUDAGraphMode

    if model is None:
        model = nn.Module()
        model.layers = nn.ModuleList([Layer(), Layer()])
    parallel = {"pipeline_parallel_size": 1, "prefill_context_parallel_size": 1, "use_ubatching": False} | about
    mode = CompilationMode.NONE if eager else CompilationMode.VLLM_COMPILE
    config = SimpleNamespace(
        model_config=SimpleNamespace(hf_text_config=SimpleNamespace(num_hidden_layers=2)),
        compilation_config=SimpleNamespace(mode=mode, cudagraph_mode=CUDAGraphMode.NONE),
        parallel_config=SimpleNamespace(**parallel),
        additional_config={"sirl_sense_layers": list(wanted)},
    )
    drafted = about.get("drafted", False)
    return SimpleNamespace(vllm_config=config, get_model=lambda: model, use_aux_hidden_state_outputs=drafted)


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"drafted": True}, "--speculative-config"),
        ({"pipeline_parallel_size": 2}, "--pipeline-parallel-size"),
        ({"prefill_context_parallel_size": 2}, "--prefill-context-parallel-size"),
        ({"use_ubatching": True}, "--enable-dbo"),
        ({"eager": False}, "give --enforce-eager"),
        ({"model": nn.Module()}, "its layers were not found"),
    ],
)
def test_why_it_cannot_be_read_is_said(about, said):
    from serving.engine.residual_stream import ResidualStream

    stream = ResidualStream(runner(**about, wanted=(1,)))
    assert said in stream.want([1]) and stream.layers == () and stream.take([torch.zeros(3, 4)], 3) == {}


def test_layers_that_the_model_has_not_are_another_model_s():
    from serving.engine.residual_stream import ResidualStream

    stream = ResidualStream(runner(wanted=(2, 3)))
    assert stream.layers == (2,), "what an old calibration names beyond them keeps no others from being read"
    assert "reads layer 3, and the model has 2" in stream.want([1, 3]) and stream.want([1]) is None
    assert stream.layers == (1, 2)


def test_hooks_take_a_stream_that_they_understand_and_no_other(caplog):
    """One tensor, or a pair that a norm of vLLM's adds up; a pair before another norm may be anything."""
    from vllm.config import VllmConfig, set_current_vllm_config
    from vllm.model_executor.layers.layernorm import RMSNorm

    from serving.engine.residual_stream import ResidualStream

    for adds in (False, True):
        model = nn.Module()
        model.decoder = nn.Module()
        model.decoder.h = nn.ModuleList([Layer(), Layer()])
        with set_current_vllm_config(VllmConfig()):
            model.decoder.norm = RMSNorm(4) if adds else Layer()
        stream = ResidualStream(runner(model))
        assert stream.want([2]) is None and stream.want([1, 2]) is None
        first, one, other = (torch.randn(3, 4) for _ in range(3))
        kept = first.clone()
        model.decoder.h[0](first)
        model.decoder.h[1]((one, other))
        first.zero_()  # as a norm may, in place
        taken = stream.take(None, 3)
        assert torch.equal(taken[1], kept) and (2 in taken) is adds
        assert not adds or torch.equal(taken[2], one + other)
        assert stream.take(None, 3) == {}
        model.decoder.h[0](first)
        assert stream.take(None, 4) == {}, "a layer of fewer rows has others'"
    assert [record.message for record in caplog.records if record.name == "sirl"] == [
        "Layer does not return the residual stream, so the harm sense is not read."
    ]
