"""An installation of the bundled model, and contested events as its server stores them."""

from __future__ import annotations

import time
from pathlib import Path

import models
from online.events.event import Event, new_event_id
from online.model.fingerprint import fingerprint
from online.operations.installation import Installation
from online.settings.load import load


def contested(number: int) -> Event:
    now = time.time()
    return Event(
        id=new_event_id(now),
        time=now,
        adapter="base",
        verdict="contested",
        prompt=f"prompt {number}",
        prompt_tokens=(number, 2, 3),
        response="text",
        response_tokens=(4, 5),
        entropies=(0.5, 1.5),
        entropy_mean=1.0,
        refusal_mass=0.5,
        finish_reason="stop",
        client="c" * 32,
        model=fingerprint(models.bundled()),
    )


def installed(folder: Path) -> Installation:
    """A new installation of the bundled model, its state in a folder."""
    return Installation.of(load(env={"SIRL_STATE_DIR": str(folder)}), models.bundled())
