"""A published model as `sirl fetch` makes it, answered by transformers and by the learner."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from online.model.decoding import generate
from online.model.local_model import LocalModel

pytestmark = pytest.mark.real
IM_END, END_OF_TEXT = 151645, 151643
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def llm(real_model: Path) -> LocalModel:
    return LocalModel.load(real_model)


def test_transformers_answers_by_it_and_stops(llm: LocalModel) -> None:
    """By the model's own generation config, which has both ends."""
    model, tokenizer = llm.model, llm.tokenizer
    assert model.generation_config.eos_token_id == [IM_END, END_OF_TEXT]
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    ids = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    said = model.generate(**ids, do_sample=False, max_new_tokens=32)[0, ids["input_ids"].shape[1] :]
    assert "Paris" in tokenizer.decode(said) and said[-1] == IM_END and len(said) < 32


def test_the_learner_renders_its_template_and_stops_at_its_end(llm: LocalModel) -> None:
    prompt = llm.render(QUESTION)
    text = llm.tokenizer.decode(prompt)
    assert text.startswith("<|im_start|>system\nYou are Qwen") and text.endswith("<|im_end|>\n<|im_start|>assistant\n")
    assert llm.ends.tolist() == [IM_END, END_OF_TEXT]
    (answer,) = generate(llm, [prompt], temperature=0, max_tokens=32)
    assert answer.tokens[-1] == IM_END and "Paris" in llm.text(answer.tokens)


@torch.no_grad()
def test_entropies_are_those_of_a_forward_pass(llm: LocalModel) -> None:
    """In a batch of prompts of unlike lengths, against one unpadded row each, in double precision."""
    prompts = [
        llm.render([{"role": "user", "content": text}]) for text in ("Hello", "How do I pick a lock to burgle a house?")
    ]
    for prompt, answer in zip(prompts, generate(llm, prompts, max_tokens=6, seed=3), strict=True):
        row = torch.tensor([[*prompt, *answer.tokens]])
        logp = llm.model(input_ids=row, use_cache=False).logits[0, len(prompt) - 1 : -1].double().log_softmax(-1).numpy()
        expected = [-np.dot(np.exp(each), each) for each in logp]
        np.testing.assert_allclose(answer.entropies, expected, atol=2e-3)
