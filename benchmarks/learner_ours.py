"""Our side of `benchmarks.learner`, in a process of its own: MODEL PROMPTS STEPS PER_STEP GROUP TOKENS"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

from guard.openings import Openings
from online.model.local_model import LocalModel
from online.settings.groups import UpdateSettings
from online.training.selector import Selection
from online.training.trainer import Trainer


def main(model: str, prompts: str, steps: int, per_step: int, group: int, longest: int) -> None:
    llm = LocalModel.load(Path(model))
    asked = [llm.render([{"role": "user", "content": text}]) for text in json.loads(Path(prompts).read_text())]
    settings = UpdateSettings(
        preset="paper", tune="lora", learning_rate=1e-6, group_size=group, contested_per_step=per_step,
        max_tokens=longest, steps=steps,
    )  # fmt: skip
    trainer = Trainer(llm, Selection.of_all(asked), Openings(()), settings)
    tokens, began = 0.0, 0.0
    for step in range(steps):
        if step == 1:
            began = time.monotonic()
        metrics = trainer.advance()
        tokens += metrics["length"] * per_step * group if step else 0.0
    seconds = time.monotonic() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"tokens": tokens, "seconds": seconds, "peak_bytes": peak}))


if __name__ == "__main__":
    main(*sys.argv[1:3], *map(int, sys.argv[3:]))
