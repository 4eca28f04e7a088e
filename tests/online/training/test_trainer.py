"""Training: it moves what it should, and a killed run ends with the same adapter, bit for bit."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest
import torch

from guard.calibration import Bands
from guard.openings import Openings
from online.model.local_model import LocalModel
from online.model.opening_trees import tree_mass
from online.model.token_budget import Room, TokenBudget
from online.settings.groups import UpdateSettings
from online.training import objective
from online.training.presets import PRESETS
from online.training.selector import Selection, select
from online.training.trainer import ADAPTER, Trainer
from tests.online.tiny_model import random_prompts, tiny_llm

OPENINGS = Openings(((5,), (6, 7), (8,), (9, 10)))
STEPS = 12
ROOT = Path(__file__).parents[3]
QUICK = {
    "steps": STEPS, "contested_per_step": 4, "screened_per_step": 24, "max_tokens": 8, "group_size": 4, "lora_rank": 4,
    "learning_rate": 2e-3,
}  # fmt: skip


def masses_quantiles(llm: LocalModel, prompts: list) -> tuple[float, float]:
    with torch.no_grad():
        masses = tree_mass(llm, prompts, OPENINGS)
    return float(masses.quantile(0.6)), float(masses.quantile(0.8))


def tiny_trainer(**settings) -> Trainer:
    llm, prompts = tiny_llm(), random_prompts(80)
    bands, chosen = Bands(*masses_quantiles(llm, prompts)), UpdateSettings(**QUICK | settings)
    return Trainer(llm, select(llm, prompts, OPENINGS, bands), OPENINGS, chosen)


def weights(trainer: Trainer) -> list[torch.Tensor]:
    return [p.detach().clone() for p in trainer._parameters]


def masses(trainer: Trainer, adapter: str | None) -> torch.Tensor:
    with torch.no_grad(), trainer.llm.adapter(adapter):
        return tree_mass(trainer.llm, trainer.selection.prompts, OPENINGS)


def test_exact_raises_what_is_contested_and_lowers_what_lies_below(monkeypatch) -> None:
    trainer = tiny_trainer()
    # A random model has no gap of its own: give it one.
    monkeypatch.setattr(objective, "decision_gap", lambda rewards, refused, usual: torch.ones(len(rewards)))
    for _ in range(STEPS):
        trainer.advance()
    change = masses(trainer, ADAPTER) - masses(trainer, None)
    high = torch.tensor(trainer.selection.high)
    assert change[high].mean() > 0.05 > change[[i for i in range(80) if i not in high]].mean()


def test_a_gap_of_the_wrong_sign_lowers_refusals(monkeypatch) -> None:
    trainer = tiny_trainer(kl_weight_decision=0, kl_weight_responses=0)
    monkeypatch.setattr(objective, "decision_gap", lambda rewards, refused, usual: -torch.ones(len(rewards)))
    for _ in range(STEPS):
        trainer.advance()
    assert (masses(trainer, ADAPTER) - masses(trainer, None))[list(trainer.selection.high)].mean() < -0.02


EXACT = {"decision", "below", "kl_responses", "kl_decision"}
SAMPLED = {"surrogate", "k3", "kl_responses", "kl_decision"}
TERMS = {name: EXACT for name in PRESETS} | {
    "paper": {"surrogate", "k3"},
    "sampled": SAMPLED,
    "opening": SAMPLED,
    "one-sided": EXACT - {"below"},
    "no-anchor": {"decision", "below"},
}


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("tune", ["lora", "full"])
def test_every_preset_has_its_terms_and_leaves_the_base_alone(preset: str, tune: str) -> None:
    trainer = tiny_trainer(preset=preset, tune=tune, steps=3)
    before = masses(trainer, None)
    for _ in range(3):
        trainer.advance()
    assert [m["step"] for m in trainer.history] == [0, 1, 2]
    seen = set(trainer.history[0])
    assert seen & (EXACT | SAMPLED) == TERMS[preset] and {"refused", "entropy", "length", "gradient_norm"} <= seen
    assert torch.equal(masses(trainer, None), before) and not torch.equal(masses(trainer, ADAPTER), before)


def test_the_live_selector_sorts_by_what_the_model_has_become() -> None:
    frozen, live = (tiny_trainer(preset=name, learning_rate=0.05) for name in ("anchored", "live-selector"))
    before = frozen.selection
    for _ in range(4):
        frozen.advance()
        live.advance()
    assert frozen.selection == before and live.selection.high != before.high


def test_the_rate_rises_over_the_first_steps_and_is_halved_after_most() -> None:
    trainer = tiny_trainer(learning_rate=None, steps=10)
    rates = []
    for _ in range(10):
        trainer.advance()
        rates.append(trainer._optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([4e-4, 8e-4, 1.2e-3, 1.6e-3, 2e-3, 2e-3, 1e-3, 1e-3, 1e-3, 1e-3])


def test_a_copy_is_saved_as_a_whole_model(tmp_path: Path) -> None:
    trainer = tiny_trainer(tune="full")
    trainer.advance()
    trainer.llm.save_adapter(ADAPTER, tmp_path)
    saved = LocalModel.load(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(
            tree_mass(saved, trainer.selection.prompts, OPENINGS), masses(trainer, ADAPTER), rtol=0, atol=1e-6
        )


def test_paper_learns_low_entropy() -> None:
    trainer = tiny_trainer(preset="paper", tune="lora", steps=30, learning_rate=5e-3)
    seen = [trainer.advance()["entropy"] for _ in range(30)]
    assert sum(seen[-5:]) < sum(seen[:5])


@pytest.mark.parametrize("preset", ["anchored", "sampled"])
def test_graphs_held_one_by_one_give_the_gradient_of_one_graph(preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gradients = []
    for tokens in (100_000, 25):
        trainer, pieces, seen = tiny_trainer(preset=preset), Counter[str](), [0]
        trainer.llm.budget = TokenBudget(Room(tokens, 0), Room(100_000, 0), Room(100_000, 0))

        def noted(metrics: dict, losses=trainer._losses, pieces=pieces) -> Iterator[tuple[str, torch.Tensor]]:
            for name, loss in losses(metrics):
                pieces[name] += 1
                yield name, loss

        def note(module: torch.nn.Module, args: tuple, given: dict, seen=seen) -> None:
            seen.append(given["input_ids"].numel() if torch.is_grad_enabled() else 0)

        monkeypatch.setattr(trainer, "_losses", noted)
        trainer.llm.model.get_decoder().register_forward_pre_hook(note, with_kwargs=True)
        metrics = trainer.advance()
        expected = {"decision", "below"} if preset == "anchored" else {"surrogate"}
        assert pieces.keys() == expected | {"anchors"}
        assert all(n == 1 if tokens > 25 else n > 1 for n in pieces.values()), pieces
        assert 15 < max(seen) <= tokens
        gradients.append(([p.grad for p in trainer._parameters], metrics))
    (whole, one), (summed, other) = gradients
    for a, b in zip(whole, summed, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)
    assert one == pytest.approx(other, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize(("wanted", "large", "again"), [(None, 1, True), (None, 10**9, False), (False, 1, False)])
def test_a_large_model_computes_layers_again_unless_told_otherwise(
    wanted: bool | None, large: int, again: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "sirl")
    monkeypatch.setattr("online.training.trainer.LARGE", large)
    trainer = tiny_trainer(gradient_checkpointing=wanted)
    assert trainer.llm._recompute is again
    assert ("layers are computed again" in caplog.text) is again


def test_layers_computed_again_give_the_same_gradient_and_no_more_than_they_should_are_kept() -> None:
    gradients = []
    for again in (False, True):
        trainer = tiny_trainer(gradient_checkpointing=again)
        kept = 0

        def note(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal kept
            kept += tensor.nelement()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            trainer.advance()
        gradients.append(([p.grad for p in trainer._parameters], kept))
    for a, b in zip(gradients[0][0], gradients[1][0], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)
    assert gradients[1][1] < 0.8 * gradients[0][1]


def test_a_base_in_half_precision_has_an_adapter_in_full() -> None:
    llm, prompts = tiny_llm(dtype=torch.bfloat16), random_prompts(80)
    bands = Bands(*masses_quantiles(llm, prompts))
    trainer = Trainer(llm, select(llm, prompts, OPENINGS, bands), OPENINGS, UpdateSettings(**QUICK))
    before = weights(trainer)
    assert all(p.dtype == torch.float32 for p in before)
    trainer.advance()
    assert not all(torch.equal(a, b) for a, b in zip(before, weights(trainer), strict=True))


def test_two_runs_of_one_seed_are_the_same_and_of_two_are_not() -> None:
    runs = []
    for seed in (0, 0, 1):
        trainer = tiny_trainer(seed=seed)
        trainer.advance()
        runs.append(weights(trainer))
    assert all(torch.equal(a, b) for a, b in zip(runs[0], runs[1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(runs[0], runs[2], strict=True))


def test_a_checkpoint_of_other_data_is_not_taken(tmp_path: Path) -> None:
    trainer = tiny_trainer()
    trainer.advance()
    trainer.save(tmp_path / "c.pt", "sha256:1")
    fresh = tiny_trainer()
    before = weights(fresh)
    assert not fresh.restore(tmp_path / "c.pt", "sha256:2") and not fresh.restore(tmp_path / "none.pt", "sha256:1")
    assert fresh.step == 0 and all(torch.equal(a, b) for a, b in zip(before, weights(fresh), strict=True))
    assert fresh.restore(tmp_path / "c.pt", "sha256:1") and fresh.step == 1


SCRIPT = """
import sys, torch
from pathlib import Path
from tests.online.training.test_trainer import run
run(Path(sys.argv[1]), sys.stdin.buffer)
"""


def run(folder: Path, leave: BinaryIO | None = None) -> tuple[list[torch.Tensor], list[dict]]:
    """All steps, or what a checkpoint leaves of them, on one thread; after each it says so and waits for its leave."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    trainer = tiny_trainer()
    trainer.restore(folder / "c.pt", "k")
    while trainer.step < STEPS:
        trainer.advance()
        trainer.save(folder / "c.pt", "k")
        print(trainer.step, flush=True)
        if leave is not None:
            leave.read(1)
    torch.set_num_threads(threads)
    return weights(trainer), trainer.history


def test_killed_at_a_random_step_it_ends_with_the_same_adapter_bit_for_bit(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    command, environment = [sys.executable, "-c", SCRIPT, str(tmp_path)], os.environ | {"PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    allowed = random.randint(1, STEPS - 2)
    with subprocess.Popen(command, env=environment, **pipes) as killed:
        for _ in range(allowed):
            killed.stdout.readline()
            killed.stdin.write(b".")
            killed.stdin.flush()
        time.sleep(random.random() * 0.05)  # somewhere in the next step, or in keeping it; it cannot come further
        killed.send_signal(signal.SIGKILL)
    reached = torch.load(tmp_path / "c.pt", weights_only=True)["step"]
    assert killed.returncode == -signal.SIGKILL and allowed <= reached <= allowed + 1
    resumed, whole = run(tmp_path), run(tmp_path / "whole")
    assert all(torch.equal(a, b) for a, b in zip(resumed[0], whole[0], strict=True)) and resumed[1] == whole[1]


@pytest.mark.parametrize("preset", ["anchored", "paper"])
def test_a_model_that_falls_apart_shows_it(preset: str) -> None:
    trainer = tiny_trainer(preset=preset, learning_rate=5.0, kl_weight_responses=0.1)
    signs = []
    for _ in range(STEPS):
        trainer.advance()
        signs.append(trainer.sign_of_collapse())
    assert signs[0] is None and any(signs), trainer.history


@pytest.mark.parametrize(
    ("last", "sign"),
    [
        ({}, None),
        ({"kl_responses": 0.3 * 4.9}, None),
        ({"kl_responses": 0.3 * 5.1}, "update.stop_kl = 5"),
        ({"kl_responses": float("nan")}, "update.stop_kl = 5"),
        ({"entropy": 0.06}, None),
        ({"entropy": 0.04}, "update.stop_entropy = 0.05"),
        ({"entropy": float("nan")}, "update.stop_entropy = 0.05"),
    ],
)
def test_each_sign_has_its_bound(last: dict, sign: str | None) -> None:
    trainer, first = tiny_trainer(), {"step": 0, "kl_responses": 0.0, "entropy": 1.0, "length": 8.0, "gradient_norm": 1.0}
    trainer.history = [first, first | last]
    found = trainer.sign_of_collapse()
    assert (found is None) if sign is None else sign in (found or "")


def test_a_gradient_that_is_no_number_changes_no_weight_and_several_stop_learning(monkeypatch) -> None:
    trainer = tiny_trainer()
    before, signs = [p.detach().clone() for p in trainer._parameters], []
    monkeypatch.setattr("torch.nn.utils.clip_grad_norm_", lambda parameters, most: torch.tensor(float("nan")))
    for _ in range(3):
        trainer.advance()
        signs.append(trainer.sign_of_collapse())
    assert all(torch.equal(a, b) for a, b in zip(before, trainer._parameters, strict=True)) and trainer.step == 3
    assert signs[:2] == [None, None] and "3 gradients in a row were not finite" in (signs[2] or "")
    monkeypatch.undo()
    trainer.advance()
    assert trainer.sign_of_collapse() is None
    assert any(not torch.equal(a, b) for a, b in zip(before, trainer._parameters, strict=True))


def test_nothing_contested_below_or_to_anchor_is_no_error() -> None:
    trainer = tiny_trainer()
    selection = trainer.selection
    every = tuple(range(len(selection.prompts)))
    trainer.selection = Selection(selection.prompts, selection.masses, selection.bands, every, (), ())
    assert "below" not in trainer.advance() and "kl_decision" not in trainer.history[0]
