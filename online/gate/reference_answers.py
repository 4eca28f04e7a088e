"""Reference answers: how likely a model finds the right answers to tasks, exactly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from evaluation import Prompt
from guard.openings import Tokens
from online.model.chunked_logits import per_token
from online.model.local_model import LocalModel
from online.training import objective


@torch.no_grad()
def likelihood(llm: LocalModel, prompts: Sequence[Prompt], asked: Sequence[Tokens]) -> NDArray[np.float64]:
    """Log-likelihood of each task's answer after its prompt as it is asked, in nats a token (the mean over its tokens, the
    end left out); NaN of what is no task, or has no answer."""
    found = np.full(len(prompts), np.nan)
    tokens = {
        row: llm.tokenizer.encode(prompt.answer, add_special_tokens=False)
        for row, prompt in enumerate(prompts)
        if prompt.kind == "task" and prompt.answer
    }
    known = [row for row, answer in tokens.items() if answer]
    before, answers = [asked[row] for row in known], [tokens[row] for row in known]
    for batch in llm.batches(before, answers):
        logits, said, mask = llm.response_logits([before[i] for i in batch], [answers[i] for i in batch])
        each = objective.masked_mean(per_token(objective.token_logprobs, logits, said), mask)
        found[[known[i] for i in batch]] = each.double().cpu().numpy()
    return found
