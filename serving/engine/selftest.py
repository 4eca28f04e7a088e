"""The probe against a forward pass: `python -m serving.engine.selftest MODEL [CALIBRATION]` prints the worst differences as
JSON, of the harm sense too where the calibration has one."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from guard.calibration import Calibration
from guard.sense import Sense
from serving.engine.version import prepare_environment


class Silent:
    """A watcher with nobody to tell."""

    def finished(self, answer) -> None: ...
    def aborted(self, answer) -> None: ...
    def failed(self, answer) -> None: ...


async def run(model: Path, sense: Sense | None = None) -> dict:
    """Generate greedy and sampled responses through the guarded engine and hold each entropy, and what the sense reads of
    each prompt, against transformers."""
    import numpy as np
    import torch
    from transformers import AutoModelForCausalLM
    from vllm import SamplingParams
    from vllm.engine.arg_utils import AsyncEngineArgs

    from guard.entropy import token_entropy
    from online.model.local_model import LocalModel
    from online.model.residual import harm_of
    from online.settings.groups import GuardSettings
    from serving.engine import scheduler
    from serving.engine.adapters import Adapters
    from serving.engine.guarded import Guarded
    from serving.request.exchange import Exchange, current

    args = AsyncEngineArgs(
        model=str(model),
        dtype="float32",
        enforce_eager=True,
        max_model_len=256,
        max_num_seqs=8,
        disable_log_stats=True,
        async_scheduling=False,
        worker_extension_cls="serving.engine.worker.WorkerExtension",
    )
    config = args.create_engine_config()
    scheduler.choose(config.scheduler_config)
    engine = Guarded.from_vllm_config(config, disable_log_stats=True)
    try:
        await engine.guard(Silent(), Adapters(engine, lambda name, seconds: None), GuardSettings())
        unread = await engine.set_sense(0, sense)

        async def one(seed: int):
            request = Exchange()
            current.set(request)
            params = SamplingParams(temperature=seed % 2, seed=seed, max_tokens=24)
            ids = engine.get_tokenizer().encode("The quick brown fox")[: 4 + seed]
            ids += sense.turn_end.tokens if sense else ()
            async for _ in engine.generate({"prompt_token_ids": ids}, params, f"selftest-{seed}"):
                pass
            return ids, request.answers[0].record

        records = await asyncio.gather(*map(one, range(8)))
    finally:
        engine.shutdown(timeout=5)
    reference = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    worst, tokens = 0.0, 0
    for prompt, record in records:
        with torch.no_grad():
            logits = reference(torch.tensor([prompt + record.tokens])).logits[0, len(prompt) - 1 : -1].numpy()
        worst = max(worst, float(np.abs(token_entropy(logits) - np.array(record.entropies)).max()))
        tokens += len(record.tokens)
    found = {"worst": worst, "tokens": tokens, "unread": unread}
    if sense is None:
        return found
    expected = harm_of(LocalModel.load(model, device="cpu"), [prompt for prompt, _ in records], sense)
    read = [np.nan if record.harm is None else record.harm for _, record in records]
    return found | {"harm": float(np.abs(expected - read).max())}


if __name__ == "__main__":
    prepare_environment(bundled=True)
    chosen = Calibration.load(Path(sys.argv[2])).sense if len(sys.argv) > 2 else None
    print(json.dumps(asyncio.run(run(Path(sys.argv[1]), chosen))), flush=True)
