"""How likely right answers are, against a forward pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from online.gate.reference_answers import likelihood
from tests.online.gate.labelled import prompt
from tests.online.tiny_model import tiny_llm


def test_it_is_the_mean_log_probability_of_the_answer_s_tokens() -> None:
    llm = tiny_llm()
    answers = ("w7", "w8 w9 w7", "w6 w5", "", None)
    prompts = [replace(prompt("task", at), answer=answer) for at, answer in enumerate(answers)]
    prompts.append(replace(prompt("benign", 9), answer="w7"))
    asked = [llm.render(one.messages) for one in prompts]
    found = likelihood(llm, prompts, asked)
    assert list(np.isnan(found)) == [False, False, False, True, True, True], "no task, or no answer"
    for row in range(3):
        answer = llm.tokenizer.encode(prompts[row].answer, add_special_tokens=False)
        assert len(answer) == len(answers[row].split())
        ids = torch.tensor([[*asked[row], *answer]])
        with torch.no_grad():
            logp = llm.model(ids).logits[0].double().log_softmax(-1)
        each = [float(logp[len(asked[row]) - 1 + at, token]) for at, token in enumerate(answer)]
        assert abs(found[row] - np.mean(each)) < 1e-5
    assert np.isnan(likelihood(llm, prompts[3:], asked[3:])).all(), "and with no answer at all nothing is asked"
