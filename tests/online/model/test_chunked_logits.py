"""Quantities of tokens: the same in pieces as at once, with no more logits at a time than allowed."""

from __future__ import annotations

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM

from online.model import chunked_logits
from online.model.chunked_logits import Logits
from online.model.local_model import LocalModel
from online.training import objective
from tests.online.tiny_model import VOCABULARY, random_prompts, tiny_llm, tiny_tokenizer

MEASURES = {"log-probabilities": objective.token_logprobs, "KL": objective.full_vocabulary_kl}


@pytest.mark.parametrize("name", MEASURES)
def test_in_pieces_it_is_the_same_and_so_is_its_gradient(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = torch.Generator().manual_seed(0)
    states, others = torch.randn(2, 3, 7, 16, generator=draw)
    weight = torch.nn.Parameter(torch.randn(VOCABULARY, 16, generator=draw))
    seen: list[int] = []

    def head(rows: torch.Tensor) -> torch.Tensor:
        seen.append(rows[..., 0].numel())
        return rows @ weight.T

    tokens = torch.randint(0, VOCABULARY, (3, 7), generator=draw)
    other = tokens if name == "log-probabilities" else Logits(others, head, VOCABULARY)
    found = []
    for budget in (1 << 23, 5 * VOCABULARY):
        monkeypatch.setattr(chunked_logits, "LOGITS", budget)
        states, weight.grad = states.detach().requires_grad_(), None
        seen.clear()
        value = chunked_logits.per_token(MEASURES[name], Logits(states, head, VOCABULARY), other)
        (value * torch.arange(7)).sum().backward()
        found.append((value, states.grad, weight.grad))
        assert value.shape == (3, 7) and max(seen) == min(21, budget // VOCABULARY)
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_its_logits_are_those_of_transformers() -> None:
    check(tiny_llm(), plain=True)


def test_a_model_that_caps_its_logits_is_read_through_its_own_forward() -> None:
    config = Gemma2Config(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, final_logit_softcapping=2.0, eos_token_id=2, pad_token_id=0,
        initializer_range=0.5,
    )  # fmt: skip
    check(LocalModel(Gemma2ForCausalLM(config), tiny_tokenizer()), plain=False)


def check(llm: LocalModel, *, plain: bool) -> None:
    prompts, responses = random_prompts(4), [(5, 6, 7), (8, 2), (9,), (4, 4, 4, 2)]
    with torch.no_grad():
        logits, _, mask = llm.response_logits(prompts, responses)
        assert (logits.states.shape[-1] == 32) is plain
        for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
            alone = llm.model(input_ids=torch.tensor([[*prompt, *response]])).logits[0, len(prompt) - 1 : -1].float()
            torch.testing.assert_close(logits.whole()[row][mask[row]], alone, rtol=1e-4, atol=1e-4)
