"""The clock that stamps events: the system's, without jumps that do not last."""

from __future__ import annotations

import time
from collections.abc import Callable

SLACK_S = 2.0
"""By how much the system's clock may differ from a steady one between two looks; more is a jump."""
HOLD_S = 600.0
"""For how long a jump must last before it is believed."""


def _since_boot() -> float:
    """Seconds, sleep included, which time.monotonic leaves out."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Clock:
    """Unix time, seconds. A clock that is set ahead for a minute would stamp events into the future, and make all the others
    old; so when it jumps this one goes on as before until the jump has held."""

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = _since_boot) -> None:
        self._wall, self._steady = wall, steady
        self._offset = wall() - steady()
        self._jump: tuple[float, float] | None = None
        """The offset jumped to, and since when (steady seconds)."""

    def __call__(self) -> float:
        steady = self._steady()
        offset = self._wall() - steady
        jump = self._jump
        if abs(offset - self._offset) <= SLACK_S:
            self._offset, self._jump = offset, None
        elif jump is None or abs(offset - jump[0]) > SLACK_S:
            self._jump = offset, steady
        elif steady - jump[1] >= HOLD_S:
            self._offset, self._jump = offset, None
        else:
            self._jump = offset, jump[1]
        return steady + self._offset
