"""What TRL's GRPO makes of one batch: python trl_client.py MODEL BATCH.npz OUT.npz

The batch holds prompts (left-padded) and completions (right-padded) with their masks, advantages, and the log-probabilities
of the tokens under an older policy and under the reference.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer


def main(model: str, batch: str, out: str) -> None:
    settings = GRPOConfig(
        output_dir=str(Path(out).parent / "trl"),
        loss_type="grpo",
        beta=0.001,
        epsilon=0.2,
        num_generations=2,
        per_device_train_batch_size=2,
        temperature=1.0,
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=True,
        report_to=[],
    )
    trainer = GRPOTrainer(
        AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=settings,
        train_dataset=Dataset.from_dict({"prompt": ["w5"] * 4}),
        processing_class=AutoTokenizer.from_pretrained(model),
    )
    inputs = {name: torch.from_numpy(value) for name, value in np.load(batch).items()}
    trainer.model.eval()
    both = [torch.cat([inputs[f"prompt_{part}"], inputs[f"completion_{part}"]], 1) for part in ("ids", "mask")]
    logps, entropies, _ = trainer._get_per_token_logps_and_entropies(
        trainer.model, *both, inputs["completion_ids"].shape[1], compute_entropy=True
    )
    loss = trainer._compute_loss(trainer.model, inputs)
    loss.backward()
    gradient = trainer.model.model.embed_tokens.weight.grad
    np.savez(out, loss=loss.item(), logps=logps.detach(), entropies=entropies.detach(), gradient=gradient)


if __name__ == "__main__":
    main(*sys.argv[1:])
