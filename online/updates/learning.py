"""Learning: all steps of an update, and of these as many as held-out prompts let pass.

How far a version may go is not known beforehand: on a real model ten steps were too many, and on the bundled one thirty are
right. So it is looked at on its way, and what goes to the gate is the furthest step at which each change was within what the
gate allows. Where the looks ask other prompts than the gate, that judges what they chose as if nobody had chosen; elsewhere
they choose nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from online.gate.claims import LOST, LOST_BY_A_FAMILY
from online.gate.gate import OnTheWay
from online.training.trainer import CHECKPOINT_STEPS, Trainer
from online.updates.record import UpdateRecord
from online.updates.scalars import scalars

log = logging.getLogger("sirl")

DEFENCE = (LOST, LOST_BY_A_FAMILY)
DIP = 20
"""Steps before which lost defence is no sign: steering is the stronger term at first (docs/evidence/science.md)."""


class UpdateStopped(Exception):
    """Learning went wrong on its way and was stopped; nothing was published."""


def learn_up_to(
    trainer: Trainer,
    record: UpdateRecord,
    keys: tuple[str, str],
    look: Callable[[], OnTheWay],
    tensorboard: Path | None,
    bar: type[tqdm],
) -> str | None:
    """All steps, or those that are left after the last checkpoint; then back to the last sound one, if the end is not.
    Returns why it went back, if it did.

    keys: digests of what decides the weights, and of what decides whether a step is sound. look: at the adapter as it is.
    Raises UpdateStopped at signs of collapse, and where held-out prompts contradict what the gate allows, unless an earlier
    step was sound.
    """
    key, sound = keys[0], " ".join(keys)
    trainer.restore(record.checkpoint, key)
    total, every, first, began = trainer.settings.steps, trainer.settings.look_every, trainer.step, time.monotonic()
    against: tuple[str, ...] = ()
    with bar(total=total, initial=first, desc="learning", unit="step") as shown, scalars(tensorboard, first) as note:
        while trainer.step < total and not against:
            metrics = trainer.advance()
            if sign := trainer.sign_of_collapse():
                against = (sign,)
            elif every and trainer.step % every == 0 and trainer.step < total:
                against = _signs(_looked_at(trainer, look, record.sound, sound), trainer.step)
            note(metrics)
            if not against and (trainer.step % CHECKPOINT_STEPS == 0 or trainer.step == total):
                trainer.save(record.checkpoint, key)
            shown.set_postfix(refused=f"{metrics['refused']:.2f}", entropy=f"{metrics['entropy']:.2f}")
            shown.update()
            pace = (time.monotonic() - began) / (trainer.step - first)
            record.progress("learning", trainer.step, total, pace * (total - trainer.step))
    if every and not against:
        end = _looked_at(trainer, look, record.sound, sound)
        if end.within:
            return None
        against = _signs(end, trainer.step)
    reached = trainer.step
    if every and trainer.restore(record.sound, sound):
        why = "; ".join(against) or "there held-out prompts change by more than the gate allows"
        back = f"Learning went back from step {reached} to step {trainer.step}, the last sound one: {why}."
        log.warning("%s", back)
        return back
    if against:
        raise UpdateStopped(*(f"Learning stopped at step {reached}: {sign}." for sign in against))
    return None


def _looked_at(trainer: Trainer, look: Callable[[], OnTheWay], sound: Path, key: str) -> OnTheWay:
    """Look, note what it found beside the step's metrics, and keep the step where it is sound."""
    found = look()
    trainer.history[-1] |= {f"look: {claim}": change for claim, change in found.changes.items()}
    if found.within:
        trainer.save(sound, key)
    return found


def _signs(found: OnTheWay, step: int) -> tuple[str, ...]:
    """What of a look's findings speaks against going on."""
    return tuple(sign for claim, sign in found.contradicted.items() if claim not in DEFENCE or step >= DIP)
