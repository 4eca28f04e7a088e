"""Repetition: a version is taught once more, to see that the same events give the same weights."""

from __future__ import annotations

from online.operations.installation import Installation
from online.updates.repeat import repeat as taught_again


def repeat(installation: Installation, version: int) -> tuple[str, str]:
    """SHA-256 of a version's weights as they are, and as the same events teach them now."""
    with installation.buffer() as buffer:
        return taught_again(installation.state, installation.registry, buffer, installation.model, version)
