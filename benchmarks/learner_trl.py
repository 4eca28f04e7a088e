"""TRL's side of `benchmarks.learner`, in a process of its own: MODEL PROMPTS STEPS PER_STEP GROUP TOKENS"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer


class Clock(TrainerCallback):
    """When the first step ended and when the last one did."""

    ended: list[float]

    def __init__(self) -> None:
        self.ended = []

    def on_step_end(self, *args, **kwargs) -> None:
        self.ended.append(time.monotonic())


def main(model: str, prompts: str, steps: int, per_step: int, group: int, longest: int) -> None:
    torch.set_num_threads(2)
    lengths: list[int] = []

    def entropy(completions, completion_ids, **_) -> list[float]:
        """The model is not at a reward function's hand, so this one gives noise: it costs nothing, as SIRL's would."""
        lengths.append(sum(map(len, completion_ids)))
        return [float(len(ids) % 7) for ids in completion_ids]

    clock = Clock()
    with tempfile.TemporaryDirectory() as out:
        settings = GRPOConfig(
            output_dir=out,
            loss_type="grpo",
            beta=0.001,
            learning_rate=1e-6,
            num_generations=group,
            per_device_train_batch_size=per_step * group,
            max_completion_length=longest,
            max_steps=steps,
            temperature=1.0,
            bf16=False,
            gradient_checkpointing=False,
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        )
        rows = [{"prompt": [{"role": "user", "content": text}]} for text in json.loads(Path(prompts).read_text())]
        trainer = GRPOTrainer(
            AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
            reward_funcs=entropy,
            args=settings,
            train_dataset=Dataset.from_list(rows),
            processing_class=AutoTokenizer.from_pretrained(model),
            peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
            callbacks=[clock],
        )
        trainer.train()
    seconds = clock.ended[-1] - clock.ended[0]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"tokens": sum(lengths[1:]), "seconds": seconds, "peak_bytes": peak}))


if __name__ == "__main__":
    main(*sys.argv[1:3], *map(int, sys.argv[3:]))
