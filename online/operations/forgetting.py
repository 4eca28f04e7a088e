"""Forgetting what clients sent, or single events, with all that was learned from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from online.events.client import client_named
from online.operations.installation import Installation
from online.operations.suites import suites_for
from online.operations.updates import sentence
from online.operations.versions import named
from online.updates.forget import erase, rebuild
from online.updates.update import Launch


def forget(
    installation: Installation, clients: Sequence[str], events: Sequence[str], launch: Launch | None = None
) -> Iterator[str]:
    """Delete what clients sent and single events, with every adapter that learned from them, and teach anew what served;
    tells what was done, as sentences."""
    settings, state, registry = installation.settings, installation.state, installation.registry
    buffer = installation.open_buffer()
    try:
        hashes = [client_named(state, client) for client in clients]
        done = erase(state, registry, buffer, hashes, events)
        gone = ", ".join(f"v{version}" for version in done.versions)
        fate = f"{gone} had learned from them, now destroyed" if gone else "no adapter had learned from them"
        yield f"{done.events} events are deleted; {fate}."
        if done.successor:
            live = registry.live()
            serving = "the base" if live is None else named(live)
            yield f"{serving} serves in place of v{done.successor.version}, which is taught anew without them."
            suites = suites_for(installation.model, settings)
            yield sentence(rebuild(done.successor, settings, state, registry, buffer, installation.model, suites, launch))
    finally:
        buffer.close()
        installation.synchronise()
