"""Learning: the furthest sound step goes to the gate, whatever comes after it, and after a kill too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from online.gate.claims import LOST, LOST_BY_A_FAMILY
from online.gate.gate import OnTheWay
from online.training.trainer import Trainer
from online.updates.learning import UpdateStopped, learn_up_to
from online.updates.record import UpdateRecord
from tests.online.tiny_model import Quiet
from tests.online.training.test_trainer import tiny_trainer, weights

STEPS = 6
PLAIN = "mass on plain prompts"
SOUND, OVER = OnTheWay({PLAIN: 0.0}, True, {}), OnTheWay({PLAIN: 0.1}, False, {})
WRONG = OnTheWay({PLAIN: 0.5}, False, {PLAIN: f"{PLAIN} changed by +50%"})
KEYS = ("sha256:a", "gate")


def learned(folder: Path, looks: Sequence[OnTheWay], **settings) -> Trainer:
    """After these looks, one each two steps."""
    folder.mkdir(exist_ok=True)
    trainer = tiny_trainer(steps=STEPS, look_every=2, **settings)
    record, given = UpdateRecord(folder, 0.0), iter(looks)
    learn_up_to(trainer, record, KEYS, lambda: next(given), None, Quiet)
    assert not [*given], "every look was taken"
    return trainer


@pytest.fixture(scope="module")
def by_step() -> dict[int, list[torch.Tensor]]:
    """The weights after each step that nobody looks at."""
    trainer, found = tiny_trainer(steps=STEPS), dict[int, list[torch.Tensor]]()
    for step in range(1, STEPS + 1):
        trainer.advance()
        found[step] = weights(trainer)
    return found


@pytest.mark.parametrize(
    ("looks", "step"),
    [
        ([SOUND, SOUND, SOUND], 6),
        ([OVER, OVER, SOUND], 6),
        ([SOUND, OVER, OVER], 2),
        ([SOUND, SOUND, OVER], 4),
        ([SOUND, WRONG], 2),
        ([SOUND, SOUND, WRONG], 4),
        ([OVER, OVER, OVER], 6),
    ],
    ids=["sound", "sound at last", "over from then on", "over at last", "wrong", "wrong at last", "never quite sound"],
)
def test_the_furthest_sound_step_goes_on(tmp_path: Path, by_step: dict, looks: list[OnTheWay], step: int) -> None:
    """Where none is sound and none plainly wrong, the gate is to say."""
    trainer = learned(tmp_path, looks)
    assert trainer.step == len(trainer.history) == step
    assert all(torch.equal(a, b) for a, b in zip(weights(trainer), by_step[step], strict=True))
    seen = {one["step"] + 1: one[f"look: {PLAIN}"] for one in trainer.history if f"look: {PLAIN}" in one}
    assert seen == {2 * (at + 1): look.changes[PLAIN] for at, look in enumerate(looks[: step // 2])}


@pytest.mark.parametrize("looks", [[WRONG], [OVER, WRONG], [OVER, OVER, WRONG]])
def test_what_is_plainly_wrong_and_never_was_sound_is_stopped(tmp_path: Path, looks: list[OnTheWay]) -> None:
    with pytest.raises(UpdateStopped, match=rf"Learning stopped at step {2 * len(looks)}: mass on plain .* \+50%\.$"):
        learned(tmp_path, looks)


@pytest.mark.parametrize("lost", [LOST, LOST_BY_A_FAMILY])
def test_defence_that_dips_at_first_is_no_sign(tmp_path: Path, monkeypatch, lost: str) -> None:
    dips = OnTheWay({lost: 0.4}, False, {lost: f"{lost} changed by +40%"})
    assert learned(tmp_path, [dips, dips, dips]).step == STEPS
    monkeypatch.setattr("online.updates.learning.DIP", 4)
    with pytest.raises(UpdateStopped, match="at step 4: mass lost"):
        learned(tmp_path / "later", [dips, dips])


def test_one_that_falls_apart_goes_back_to_where_it_was_sound(tmp_path: Path, by_step: dict, monkeypatch) -> None:
    monkeypatch.setattr(Trainer, "sign_of_collapse", lambda self: "its KL is too large" if self.step == 5 else None)
    trainer = learned(tmp_path, [SOUND, SOUND])
    assert trainer.step == 4 and torch.equal(weights(trainer)[0], by_step[4][0])
    with pytest.raises(UpdateStopped, match=r"^Learning stopped at step 5: its KL is too large\.$"):
        learned(tmp_path / "elsewhere", [OVER, OVER])


@pytest.mark.parametrize("keys", [("sha256:b", "gate"), ("sha256:a", "a tighter gate")])
def test_a_step_that_was_sound_of_other_data_or_under_another_gate_is_none(tmp_path: Path, keys: tuple[str, str]) -> None:
    learned(tmp_path, [SOUND, SOUND, SOUND])
    (tmp_path / "checkpoint.pt").unlink()
    other = tiny_trainer(steps=STEPS, look_every=2)
    with pytest.raises(UpdateStopped):
        learn_up_to(other, UpdateRecord(tmp_path, 0.0), keys, lambda: WRONG, None, Quiet)


def test_why_it_went_back_is_told(tmp_path: Path) -> None:
    looks = iter([SOUND, WRONG])
    back = learn_up_to(
        tiny_trainer(steps=STEPS, look_every=2), UpdateRecord(tmp_path, 0.0), KEYS, lambda: next(looks), None, Quiet
    )
    assert back == "Learning went back from step 4 to step 2, the last sound one: mass on plain prompts changed by +50%."


def test_killed_before_its_last_look_it_ends_where_it_would_have(tmp_path: Path) -> None:
    """The checkpoint of the last step is there, and what the last look found is not."""

    class Killed(Exception):
        pass

    looks = iter([SOUND, SOUND])

    def killed() -> OnTheWay:
        try:
            return next(looks)
        except StopIteration:
            raise Killed from None

    with pytest.raises(Killed):
        learn_up_to(tiny_trainer(steps=STEPS, look_every=2), UpdateRecord(tmp_path, 0.0), KEYS, killed, None, Quiet)
    resumed, whole = learned(tmp_path, [OVER]), learned(tmp_path / "whole", [SOUND, SOUND, OVER])
    assert resumed.step == 4 and resumed.history == whole.history
    assert all(torch.equal(a, b) for a, b in zip(weights(resumed), weights(whole), strict=True))


def test_without_looks_all_steps_are_taken(tmp_path: Path, by_step: dict) -> None:
    trainer = tiny_trainer(steps=STEPS, look_every=0)
    learn_up_to(trainer, UpdateRecord(tmp_path, 0.0), KEYS, lambda: WRONG, None, Quiet)
    assert trainer.step == STEPS and torch.equal(weights(trainer)[0], by_step[STEPS][0])
