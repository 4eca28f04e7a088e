"""What a step of the learner takes by part, with random weights of a real model's shape, and what an update takes then."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config

import models
from benchmarks.gpu.clock import waited
from benchmarks.gpu.results import Cell
from benchmarks.gpu.sizes import Sizes
from benchmarks.shapes import calibration
from guard.calibration import Bands
from guard.openings import Openings, Tokens
from online.gate.held_out import TASKS
from online.model.decoding import generate
from online.model.local_model import LocalModel
from online.model.opening_trees import tree_mass
from online.model.sample import Sample
from online.settings.groups import GateSettings, UpdateSettings
from online.training.rollouts import LocalRollouts
from online.training.selector import Selection
from online.training.trainer import Trainer

SPECIAL = 2
"""Token ids under this are not in prompts."""
CLASSES = 4
"""Classes of held-out prompts of which the gate asks as many each; of tasks it asks TASKS times as many."""


class TimedRollouts(LocalRollouts):
    """The model's own draws, with the seconds that they took by the number of tokens asked for."""

    def __init__(self, device: str) -> None:
        self.device, self.seconds, self.tokens = device, defaultdict[int, float](float), 0

    def sample(
        self,
        llm: LocalModel,
        adapter: str,
        prompts: Sequence[Tokens],
        n: Sequence[int],
        *,
        max_tokens: Sequence[int],
        seed: int,
    ) -> list[Sample]:
        began = waited(self.device)
        found = super().sample(llm, adapter, prompts, n, max_tokens=max_tokens, seed=seed)
        self.seconds[max(max_tokens)] += waited(self.device) - began
        self.tokens += sum(len(one.tokens) for one in found)
        return found


def cells(sizes: Sizes) -> Iterator[tuple[str, Cell]]:
    """Each shape with prompts of each length."""
    for shape, config in sizes.shapes.items():
        for length in sizes.lengths:
            yield f"learner, {shape}, prompts of {length}", lambda c=config, n=length: measured(sizes, c, n)


def random_model(sizes: Sizes, config: Mapping[str, Any]) -> LocalModel:
    """Random weights, made on the device: bf16 on a GPU, fp32 on a CPU."""
    torch.manual_seed(0)
    made = Qwen2Config(**config, max_position_embeddings=4096, bos_token_id=None, eos_token_id=0)
    with torch.device(sizes.device):
        model = AutoModelForCausalLM.from_config(made, dtype=torch.bfloat16 if sizes.device == "cuda" else torch.float32)
    return LocalModel(model, AutoTokenizer.from_pretrained(models.bundled(), local_files_only=True))


def random_prompts(count: int, length: int, vocabulary: int) -> list[Tokens]:
    draw = torch.Generator().manual_seed(0)
    return [tuple(row) for row in torch.randint(SPECIAL, vocabulary, (count, length), generator=draw).tolist()]


def openings_of(vocabulary: int) -> Openings:
    """The tree of a real model's size, of tokens that the vocabulary has."""
    return Openings(
        tuple(tuple(t % (vocabulary - SPECIAL) + SPECIAL for t in s) for s in calibration("").openings.sequences)
    )


def measured(sizes: Sizes, config: Mapping[str, Any], length: int) -> dict[str, Any]:
    """A step of a shape with random weights, on random prompts of one length."""
    llm = random_model(sizes, config)
    size = sum(p.numel() for p in llm.model.parameters())
    settings = UpdateSettings(**sizes.update)
    prompts = random_prompts(max(sizes.scored, sizes.answered, settings.screened_per_step), length, config["vocab_size"])
    found = step(llm, prompts, openings_of(config["vocab_size"]), settings, scored=sizes.scored, answered=sizes.answered)
    return {"parameters": size} | found


def step(
    llm: LocalModel,
    prompts: Sequence[Tokens],
    openings: Openings,
    settings: UpdateSettings,
    *,
    scored: int,
    answered: int,
) -> dict[str, Any]:
    """Seconds and peak memory of: `scored` masses alone, `answered` answers, a whole step, a step without anchors; and what
    an update makes. The first prompts count as contested, the next as what anchors go by."""
    device, contested = llm.model.device.type, settings.contested_per_step
    shares = [0.9] * contested + [0.01] * (settings.screened_per_step - contested)
    selection = Selection.sorted_by(Bands(0.1, 0.5), prompts[: settings.screened_per_step], shares)
    found: dict[str, Any] = {"weights_gb": gigabytes(device)}

    def timed(name: str, work: Any) -> float:
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        began = waited(device)
        work()
        found[f"{name}_s"] = waited(device) - began
        found[f"{name}_peak_gb"] = peak(device)
        return float(found[f"{name}_s"])

    with torch.no_grad():
        tree_mass(llm, prompts[:2], openings)  # the first pass builds and loads
        seconds = timed("masses", lambda: tree_mass(llm, prompts[:scored], openings))
    found["masses_per_second"] = scored / seconds
    found["mass_tokens_per_second"] = sum(len(p) + len(inner(openings)) for p in prompts[:scored]) / seconds
    seconds = timed("answers", lambda: generate(llm, prompts[:answered], max_tokens=settings.max_tokens))
    found["answers_per_second"] = answered / seconds
    rollouts = TimedRollouts(device)
    trainer = Trainer(llm, selection, openings, settings, rollouts)
    if device == "cuda":
        timed("first_step", trainer.advance)  # the first one builds and loads
        rollouts.seconds.clear()
    found["step_s"] = timed("step", trainer.advance)
    found["rollouts_s"] = dict(rollouts.seconds)
    rollouts.seconds.clear()
    trainer.settings = settings.model_copy(update={"kl_weight_responses": 0.0, "kl_weight_decision": 0.0})
    timed("step_without_anchors", trainer.advance)
    found["contested_rollouts_s"] = sum(rollouts.seconds.values())
    found["masses_and_gradient_s"] = found["step_without_anchors_s"] - found["contested_rollouts_s"]
    found["anchors_s"] = found["step_s"] - found["step_without_anchors_s"]
    found["finite"] = all(value == value for metrics in trainer.history for value in metrics.values())
    found["head_is_plain"] = llm._head_is_plain()
    return found | estimate(found, settings)


def inner(openings: Openings) -> set[Tokens]:
    """Nodes of the tree that a pass adds behind a prompt."""
    return {s[:k] for s in openings.sequences for k in range(1, len(s))}


def gigabytes(device: str) -> float | None:
    return torch.cuda.memory_allocated() / 1e9 if device == "cuda" else None


def peak(device: str) -> float | None:
    return torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else None


def estimate(found: Mapping[str, Any], settings: UpdateSettings) -> dict[str, Any]:
    """A default update of such prompts in minutes, with its arithmetic: selection, steps, and the gate's two models."""
    screened = settings.steps * settings.screened_per_step
    gate = GateSettings().prompts_per_class * (CLASSES + TASKS)
    parts = {
        "selection": screened / found["masses_per_second"],
        "steps": settings.steps * found["step_s"],
        "gate": 2 * gate * (1 / found["masses_per_second"] + 2 / found["answers_per_second"]),
    }
    pace, answers = f"{found['masses_per_second']:.2f}/s", f"{found['answers_per_second']:.2f}/s"
    words = {
        "selection": f"{screened} masses at {pace} = {parts['selection']:.0f} s",
        "steps": f"{settings.steps} x {found['step_s']:.2f} s = {parts['steps']:.0f} s",
        "gate": f"2 x {gate} x (a mass at {pace} and two answers at {answers}) = {parts['gate']:.0f} s",
    }
    return {"update_minutes": sum(parts.values()) / 60, "arithmetic": words}
