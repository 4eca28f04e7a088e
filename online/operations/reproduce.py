"""The published experiment on a model of one's own: all weights, unlabelled prompts, no selector, anchor or gate.

What it makes is a whole model folder, for `vllm serve` and for judging with whatever one trusts; it is not served by the
guard's hot swap. arXiv 2510.01088: GRPO on minus the mean entropy, group size 4, AdamW 1e-6, k3 weight .001, about 30 steps
on prompts of PKU-SafeRLHF.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from tqdm import tqdm

from guard.errors import SirlError
from guard.openings import Openings, Tokens
from online.model.fingerprint import fingerprint
from online.model.local_model import LocalModel
from online.settings.groups import UpdateSettings
from online.state.cores import cores
from online.training.learning_rate import learning_rate
from online.training.presets import PRESETS
from online.training.selector import Selection
from online.training.trainer import ADAPTER, CHECKPOINT_STEPS, Trainer
from online.updates.report import write_report

DATA = "PKU-Alignment/PKU-SafeRLHF"
PROMPT_TOKENS = 1024
"""Longer prompts are left out, as published."""
PROMPTS = 15_000
"""Distinct prompts that are taken of the data, as published."""


def reproduce(model: str, data: str, out: Path, settings: UpdateSettings, *, bar: type[tqdm] = tqdm) -> Path:
    """Train `model` (a folder or a hub name) on the prompts of `data` (JSON lines with `prompt`, or a hub dataset) and write
    the whole model and its report into `out`; returns the report's path. Killed, it goes on from its checkpoint when run
    again. Raises SirlError."""
    preset = PRESETS[settings.preset]
    if preset.form != "sampled" or preset.anchored or preset.two_sided:
        raise SirlError(f"Preset '{settings.preset}' needs a calibrated model and traffic: use `sirl update` for it.")
    folder = local_model(model)
    torch.set_num_threads(settings.threads or cores())
    dtype = "float32" if settings.dtype == "auto" else settings.dtype  # nothing serves it, and fp32 is exact
    llm = LocalModel.load(folder, dtype=getattr(torch, dtype), device=settings.device, memory_gib=settings.memory_gib)
    chosen = {"learning_rate": learning_rate(settings, llm.size), "threads": torch.get_num_threads()}
    settings = settings.model_copy(update=chosen)
    prompts = distinct(llm, texts(data))
    if len(prompts) < settings.min_prompts:
        asked = f"update.min_prompts asks for {settings.min_prompts}"
        raise SirlError(f"{data} holds {len(prompts)} usable prompts and {asked}: give more, or ask for fewer.")
    trainer = Trainer(llm, Selection.of_all(prompts), Openings(()), settings)
    decisive = [fingerprint(folder), prompts, settings.model_dump(mode="json")]
    key, began = hashlib.sha256(json.dumps(decisive).encode()).hexdigest(), time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    trainer.restore(out / "checkpoint.pt", key)
    reason = train(trainer, out / "checkpoint.pt", key, bar)
    llm.save_adapter(ADAPTER, out)
    (out / "checkpoint.pt").unlink(missing_ok=True)
    outcome = {
        "id": out.name,
        "status": "stopped" if reason else "trained",
        "reasons": [reason] if reason else [],
        "version": None,
        "seconds": time.monotonic() - began,
    }
    story = {"settings": settings.model_dump(mode="json"), "bands": {"prompts": len(prompts)}, "history": trainer.history}
    return write_report(out, outcome, story)


def train(trainer: Trainer, checkpoint: Path, key: str, bar: type[tqdm]) -> str | None:
    """All steps that are left, or as many as a sign of collapse allows; returns the sign."""
    total = trainer.settings.steps
    with bar(total=total, initial=trainer.step, desc="learning", unit="step") as steps:
        while trainer.step < total:
            metrics = trainer.advance()
            if sign := trainer.sign_of_collapse():
                return f"Learning stopped at step {trainer.step}: {sign}."
            if trainer.step % CHECKPOINT_STEPS == 0:
                trainer.save(checkpoint, key)
            steps.set_postfix(entropy=f"{metrics['entropy']:.2f}", length=f"{metrics['length']:.0f}")
            steps.update()
    return None


def local_model(model: str) -> Path:
    """The folder of a model, fetched from the hub where `model` is no folder."""
    if Path(model).is_dir():
        return Path(model)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, allow_patterns=["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]))
    except (OSError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        reason = str(error).splitlines()[0]
        raise SirlError(f"The model {model} is no folder and cannot be fetched ({reason}).") from None


def texts(data: str) -> Iterator[str]:
    """The prompts of a file of JSON lines, or of the training split of a hub dataset with a column `prompt`."""
    path = Path(data)
    if path.exists():
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
            try:
                yield str(json.loads(line)["prompt"])
            except (ValueError, KeyError, TypeError):
                raise SirlError(f'{path}:{number} is no JSON object with a "prompt": mend or remove the line.') from None
        return
    try:
        from datasets import load_dataset

        rows = load_dataset(data, split="train")
    except ImportError:
        raise SirlError(f"{data} is no file, and datasets of the hub need `pip install datasets`.") from None
    except Exception as error:  # whatever a dataset's loading script or the network may raise
        raise SirlError(f"{data} is no file and cannot be fetched ({str(error).splitlines()[0]}).") from None
    yield from (str(prompt) for prompt in rows["prompt"])


def distinct(llm: LocalModel, prompts: Iterable[str]) -> list[Tokens]:
    """The first PROMPTS different ones that are not empty and not too long, as the model is asked them."""
    asked = (llm.render([{"role": "user", "content": text}]) for text in dict.fromkeys(prompts) if text.strip())
    return [tokens for tokens in asked if len(tokens) <= PROMPT_TOKENS][:PROMPTS]
