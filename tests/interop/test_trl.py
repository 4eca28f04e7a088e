"""TRL's GRPO on the same batch: the same log-probabilities, entropies, loss and gradient."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from online.model.chunked_logits import per_token
from online.model.decoding import generate
from online.model.entropy import token_entropy
from online.model.local_model import LocalModel
from online.model.token_rows import padded
from online.training import objective
from tests.interop.tools import HERE, run, venv
from tests.online.tiny_model import save_tiny

pytestmark = pytest.mark.interop
BETA = 0.001


def test_one_batch(tmp_path: Path) -> None:
    llm = LocalModel.load(save_tiny(tmp_path / "model"))
    # Of one length: TRL counts positions over padding too, which rotary embeddings forgive up to rounding only.
    prompts, draw = [(3 + i, *range(10, 15)) for i in range(8)], torch.Generator().manual_seed(3)
    responses = [sample.tokens for sample in generate(llm, prompts, 1, max_tokens=9, seed=1)]
    advantages = objective.group_advantages(torch.randn(2, 4, generator=draw)).flatten()
    llm.model.requires_grad_(True)
    logits, tokens, mask = llm.response_logits(prompts, responses)
    logp = per_token(objective.token_logprobs, logits, tokens)
    old, ref = (logp.detach() + 0.4 * torch.randn(logp.shape, generator=draw) for _ in range(2))
    loss = objective.clipped_surrogate(logp, old, advantages, mask)
    loss = loss + BETA * objective.masked_mean(objective.k3(logp, ref), mask).mean()
    loss.backward()

    asked, real = padded(prompts, llm.model.device, left=True)
    batch = {"prompt_ids": asked, "prompt_mask": real, "completion_ids": tokens, "completion_mask": mask.long()}
    batch |= {"advantages": advantages, "old_per_token_logps": old, "ref_per_token_logps": ref}
    np.savez(tmp_path / "batch.npz", **{name: value.numpy() for name, value in batch.items()})
    script = HERE / "clients/trl_client.py"
    run(venv("trl"), "-I", script, *(tmp_path / name for name in ("model", "batch.npz", "out.npz")), home=tmp_path)
    theirs = np.load(tmp_path / "out.npz")

    seen = mask.numpy()
    np.testing.assert_allclose(logp.detach().numpy()[seen], theirs["logps"][seen], atol=1e-5)
    np.testing.assert_allclose(token_entropy(logits.whole()).numpy()[seen], theirs["entropies"][seen], atol=1e-5)
    assert abs(loss.item() - float(theirs["loss"])) <= 1e-5
    mine = llm.model.model.embed_tokens.weight.grad.numpy()
    difference, largest = np.abs(mine - theirs["gradient"]).max(), np.abs(mine).max()
    assert largest > 1e-3 and difference <= 5e-4 * largest, (difference, largest)
