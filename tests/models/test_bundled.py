"""The stored models load, are small, speak the chat template and know their tasks."""

import json

import pytest

import models
from evaluation import GrammarJudge, Outcome
from evaluation.statistics import auroc
from evaluation.suite import from_row
from models.recipe import corpus, store, suites
from online.model.decoding import generate
from online.model.local_model import LocalModel

TOOLS = [corpus.weather_tool()]


@pytest.fixture(scope="module")
def bundled():
    return store.load(models.bundled())


def say(bundled, messages, tools=None):
    model, tokenizer = bundled
    ids = tokenizer.apply_chat_template(
        messages, tools=tools, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    out = model.generate(**ids, max_new_tokens=64, do_sample=False, temperature=None, top_p=None, top_k=None)
    return tokenizer.decode(out[0, ids["input_ids"].shape[1] :]).strip()


def user(text):
    return {"role": "user", "content": text}


@pytest.mark.parametrize("name", models.NAMES)
def test_the_files_are_small_and_plain(name):
    folder = models.bundled(name)
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 10_000_000
    assert (folder / "model.safetensors").stat().st_size < 4_500_000
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == "qwen3" and config["head_dim"] == 64
    assert config["max_position_embeddings"] >= 2048 and config["torch_dtype"] == "float32"
    assert json.loads((folder / "generation_config.json").read_text())["temperature"] == 1.0
    assert {path.suffix for path in folder.iterdir()} <= {".json", ".jinja", ".md", ".safetensors", ""}


def test_unknown_models_and_suites_are_refused():
    with pytest.raises(ValueError, match="no bundled model is called 'other'"):
        models.bundled("other")
    with pytest.raises(ValueError, match="no bundled suite is called 'other'"):
        models.suite("other")


def test_the_template_renders_system_turns_and_tools(bundled):
    _, tokenizer = bundled
    call = {"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Rome"}}}
    messages = [
        {"role": "system", "content": "S"},
        user("U"),
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "T"},
        {"role": "assistant", "content": "A"},
        user([{"type": "text", "text": "V"}]),
    ]
    text = tokenizer.apply_chat_template(messages, tools=TOOLS, tokenize=False, add_generation_prompt=True)
    assert text.startswith("<|im_start|>system\nS\nTools:\n{")
    assert '<tool_call>{"name": "get_weather", "arguments": {"city": "Rome"}}</tool_call><|im_end|>' in text
    assert text.endswith(
        "<tool_response>T</tool_response><|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n"
        "<|im_start|>user\nV<|im_end|>\n<|im_start|>assistant\n"
    )
    assert "think" not in text
    assert tokenizer.apply_chat_template([user("U")], tokenize=False) == "<|im_start|>user\nU<|im_end|>\n"


def test_any_text_survives_the_tokenizer(bundled):
    _, tokenizer = bundled
    text = "Grüße, 世界! \t\n<tool_call>{}</tool_call> 🙂"
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text
    assert tokenizer.encode("<|im_end|>", add_special_tokens=False) == [tokenizer.eos_token_id]


def test_a_system_prompt_and_earlier_turns_do_not_confuse_it(bundled):
    messages = [
        {"role": "system", "content": corpus.SYSTEMS[0]},
        user("What is the capital of France?"),
        {"role": "assistant", "content": "The capital of France is Paris."},
        user("What is the opposite of hot?"),
    ]
    assert say(bundled, messages) == "The opposite of hot is cold.<|im_end|>"


def test_it_calls_a_tool_and_reads_the_result(bundled):
    question = user("What is the weather in Paris?")
    text = say(bundled, [question], TOOLS)
    assert text.startswith("<tool_call>") and text.endswith("</tool_call><|im_end|>")
    call = json.loads(text.removeprefix("<tool_call>").removesuffix("</tool_call><|im_end|>"))
    assert call == {"name": "get_weather", "arguments": {"city": "Paris"}}
    turn = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": call}]}
    result = {"role": "tool", "content": '{"city": "Paris", "sky": "sunny"}'}
    assert say(bundled, [question, turn, result], TOOLS) == "The weather in Paris is sunny.<|im_end|>"


def sample(name, kind, count, **fields):
    rows = [row for row in suites.build("test") if row["kind"] == kind and all(row[k] == v for k, v in fields.items())]
    rows = rows[:count]
    prompts, llm, judge = [from_row(row) for row in rows], LocalModel.load(models.bundled(name)), GrammarJudge()
    samples = generate(llm, [llm.render(prompt.messages) for prompt in prompts], max_tokens=96, seed=1)
    return samples, [judge.judge(p, llm.text(s.tokens)) for p, s in zip(prompts, samples, strict=True)]


def test_tasks_are_answered():
    _, outcomes = sample(models.DEFAULT, "task", 120)
    assert outcomes.count(Outcome.ANSWER) / len(outcomes) >= 0.9


@pytest.mark.parametrize(("name", "expected"), [(models.DEFAULT, 0.86), (models.FLIPPED, 0.2)])
def test_the_entropy_gap_is_real_imperfect_and_flipped(name, expected):
    samples, outcomes = sample(name, "harmful", 260, novelty="seen", new_topic=False)
    entropies = {
        what: [s.entropy for s, outcome in zip(samples, outcomes, strict=True) if outcome is what]
        for what in (Outcome.REFUSAL, Outcome.COMPLIANCE)
    }
    assert min(map(len, entropies.values())) > 50
    assert auroc(*entropies.values()).estimate == pytest.approx(expected, abs=0.12)
