"""A clock that jumps is not believed before the jump has held."""

from __future__ import annotations

import time

from online.events.clock import HOLD_S, SLACK_S, Clock


class Times:
    """A system whose wall clock and whose time since it was started are set by hand."""

    def __init__(self) -> None:
        self.wall, self.steady = 1_800_000_000.0, 500.0
        self.clock = Clock(lambda: self.wall, lambda: self.steady)

    def after(self, seconds: float, jump: float = 0.0) -> float:
        self.steady += seconds
        self.wall += seconds + jump
        return self.clock()


def test_it_is_the_systems_time() -> None:
    assert abs(Clock()() - time.time()) < 1.0
    times = Times()
    for _ in range(1000):
        assert times.after(60.0, SLACK_S / 4) == times.wall, "a clock that is corrected a little at a time is followed"


def test_a_minute_ahead_or_behind_changes_nothing() -> None:
    for jump in (365 * 86_400.0, -365 * 86_400.0):
        times = Times()
        honest = times.wall + 10.0
        assert times.after(10.0, jump) == honest
        assert times.after(60.0) == honest + 60.0
        assert times.after(1.0, -jump) == honest + 61.0 == times.wall


def test_what_holds_is_believed_and_what_keeps_jumping_is_not() -> None:
    times = Times()
    times.after(10.0, 3600.0)
    times.after(HOLD_S / 2)
    assert times.clock() == times.wall - 3600.0
    assert times.after(HOLD_S / 2) == times.wall
    honest = times.wall
    for minute in range(1, 100):
        assert times.after(60.0, 3600.0) == honest + 60.0 * minute
