"""SFT on refusals and DPO through TRL, in a process of its own: METHOD MODEL DATA OUT RATE STEPS SEED [anchored]

DATA is JSON: "rows" of {"prompt": messages, "chosen": text, "rejected": text}, and "anchors" of {"prompt": token ids,
"response": token ids}, answers of the base to benign prompts. "anchored" adds the KL terms of `online.training.trainer`
on these to TRL's own loss. OUT gets a PEFT adapter.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

BATCH = 8
RESPONSES, DECISIONS = 12, 48
"""Anchors a step along a whole response, and at the decision, as `online.training.trainer` has them."""
RESPONSE_WEIGHT, DECISION_WEIGHTS = 0.3, (1.0, 0.3, 0.3)


class Anchored:
    """Adds the KL to the base on benign answers to a trainer's loss."""

    anchors: list[dict]
    luck: random.Random

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss = super().compute_loss(model, inputs, num_items_in_batch=num_items_in_batch)  # type: ignore[misc]
        chosen = self.luck.sample(self.anchors, DECISIONS)
        loss = loss + RESPONSE_WEIGHT * self.kl(model, chosen[:RESPONSES]).sum(1).mean()
        decision = self.kl(model, [{**one, "response": one["response"][: len(DECISION_WEIGHTS)]} for one in chosen])
        loss = loss + (decision * torch.tensor(DECISION_WEIGHTS)[: decision.shape[1]]).sum(1).mean()
        return (loss, {}) if return_outputs else loss

    def kl(self, model, anchors: list[dict]) -> torch.Tensor:
        """Full-vocabulary KL to the base at each response token, in nats; (anchors, T), 0 behind a response's end."""
        rows = [torch.tensor(one["prompt"] + one["response"]) for one in anchors]
        ids = pad_sequence(rows, batch_first=True)
        seen = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
        logits = model(input_ids=ids, attention_mask=seen).logits
        with torch.no_grad(), model.disable_adapter():
            reference = model(input_ids=ids, attention_mask=seen).logits
        new, old = logits.log_softmax(-1), reference.log_softmax(-1)
        each = (new.exp() * (new - old)).sum(-1)
        parts = [
            row[len(one["prompt"]) - 1 : len(one["prompt"]) + len(one["response"]) - 1]
            for row, one in zip(each, anchors, strict=True)
        ]
        return pad_sequence(parts, batch_first=True)


class AnchoredSFT(Anchored, SFTTrainer):
    """SFT with the anchors."""


class AnchoredDPO(Anchored, DPOTrainer):
    """DPO with the anchors."""


def main(method: str, model: str, data: str, out: str, rate: float, steps: int, seed: int, anchored: bool) -> None:
    torch.set_num_threads(1)
    given = json.loads(Path(data).read_text())
    answer = {"sft": {"completion": "chosen"}, "dpo": {"chosen": "chosen", "rejected": "rejected"}}[method]
    rows = [
        {"prompt": row["prompt"]} | {name: [{"role": "assistant", "content": row[what]}] for name, what in answer.items()}
        for row in given["rows"]
    ]
    with tempfile.TemporaryDirectory() as scratch:
        shared = {
            "output_dir": scratch, "per_device_train_batch_size": BATCH, "learning_rate": rate, "max_steps": steps,
            "seed": seed, "bf16": False, "gradient_checkpointing": False, "use_cpu": True, "report_to": [],
            "save_strategy": "no", "logging_strategy": "no",
        }  # fmt: skip
        trainers = {"sft": (SFTTrainer, AnchoredSFT, SFTConfig), "dpo": (DPOTrainer, AnchoredDPO, DPOConfig)}[method]
        trainer = trainers[anchored](
            model=AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
            args=trainers[2](**shared),
            train_dataset=Dataset.from_list(rows),
            processing_class=AutoTokenizer.from_pretrained(model),
            peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
        )
        if anchored:
            trainer.anchors, trainer.luck = given["anchors"], random.Random(seed)
        trainer.train()
        trainer.save_model(out)


if __name__ == "__main__":
    main(*sys.argv[1:5], float(sys.argv[5]), *map(int, sys.argv[6:8]), "anchored" in sys.argv[8:])
