"""Updates: run one now, or whenever one is due."""

from __future__ import annotations

import logging
import time

from guard.errors import SirlError
from online.admission.queue import Queue
from online.admission.review import summarise
from online.model.added_tokens import added_tokens
from online.operations.installation import Installation
from online.operations.suites import suites_for
from online.operations.versions import tidy
from online.registry.sync import RegistrySync
from online.updates.progress import last_started, unfinished
from online.updates.record import UpdateOutcome
from online.updates.schedule import due
from online.updates.update import Launch, run_update

log = logging.getLogger("sirl")

QUEUE_EVERY_S = 300.0
"""Between two looks at what waits in the queue, which an alert goes by."""


def update(installation: Installation, launch: Launch | None = None) -> UpdateOutcome:
    """One update from the buffer, gated, promoted or not; `launch` starts an engine for its rollouts, should the settings
    want its own. Raises Busy while another runs."""
    settings, model = installation.settings, installation.model
    installation.synchronise()  # the candidate is held against what serves elsewhere as well
    with installation.buffer() as buffer:
        outcome = run_update(
            settings,
            installation.state,
            installation.registry,
            buffer,
            model,
            suites_for(model, settings),
            launch=launch,
        )
    tidy(installation)
    return outcome


def sentence(outcome: UpdateOutcome) -> str:
    """An update's end for people."""
    what = f"v{outcome.version} was {outcome.status}" if outcome.version else f"The update was {outcome.status}"
    return f"{what} after {outcome.seconds:.0f} s: {' '.join(outcome.reasons)}"


def learn(installation: Installation, launch: Launch | None = None) -> None:
    """Run updates when they are due, and first the one a kill left unfinished; returns only when stopped."""
    settings, state, registry = installation.settings, installation.state, installation.registry
    began, identity = time.time(), registry.base
    shared = RegistrySync(state, registry, registry.store) if registry.store is not None else None
    buffer = installation.open_buffer()  # raises: a URL that is wrong at the start is the operator's to mend
    rules = ", ".join(f"{name} {value}" for name, value in settings.learn.model_dump().items())
    log.info("the learner waits (%s)", rules)
    complaint, look_at, share_at, trouble = "", 0.0, 0.0, None
    while True:
        if shared and time.monotonic() >= share_at:
            before, trouble = trouble, shared.attempt()
            if trouble != before:
                log.warning("%s", trouble or "the store is sound again.")
            share_at = time.monotonic() + settings.registry.pull_interval_s
        try:
            if time.monotonic() >= look_at:
                queue = Queue.of(
                    buffer, identity, time.time(), settings, state.client_salt(), added_tokens(installation.model)
                )
                summarise(state, queue)
                look_at = time.monotonic() + QUEUE_EVERY_S
            last = last_started(state, began)
            new = buffer.contested_since(last, identity, time.time())
            if reason := "unfinished" if unfinished(state) else due(time.time(), last, new, settings.learn):
                log.info("an update starts (%s)", reason)
                log.info("%s", sentence(update(installation, launch)))
            complaint = ""
        except SirlError as error:  # another update runs, or the database is away: the next look tells
            if str(error) != complaint:
                log.warning("%s", complaint := str(error))
        time.sleep(settings.learn.poll_interval_s)
