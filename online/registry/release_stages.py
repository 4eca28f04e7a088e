"""Release stages: the way of a version from its gate to all clients.

First it answers copies of live prompts that nobody sees (shadow), then a share of the clients (canary), then all. At each
stage its responses are compared with those of what serves, by a test that may look after every response: it is taken back at
once when it is surely worse by more than is allowed, and moves on when enough responses show nothing.
"""

from __future__ import annotations

from online.registry.registry import Registry
from online.registry.release_record import Release, Stage
from online.settings.groups import ReleaseSettings


def stages(settings: ReleaseSettings) -> tuple[tuple[Stage, float], ...]:
    """The stages that are wished for, in order, with their shares."""
    wished: tuple[tuple[Stage, float], ...] = (("shadow", settings.shadow), ("canary", settings.canary))
    return tuple((stage, share) for stage, share in wished if share > 0)


def advance(
    registry: Registry, settings: ReleaseSettings, version: int, *, actor: str, reason: str, instead: Release | None = None
) -> Stage | None:
    """Put a version on its way to serve, or from the stage it is in to the next; returns that stage, None where it serves
    now. Raises RegistryError."""
    before = registry.releasing()
    left = stages(settings)
    if before is not None and before.version == version:
        names = [stage for stage, _ in left]
        left = left[names.index(before.stage) + 1 :] if before.stage in names else ()
    if not left:
        registry.activate(version, actor=actor, reason=reason, instead=instead)
        return None
    registry.release(Release(version, *left[0]), actor=actor, reason=reason, instead=instead)
    return left[0][0]
