"""The schedule: whether an update is due, by clock, cron and the number of new contested events."""

from typing import Literal

from croniter import croniter

from online.settings.groups import LearnSettings

Reason = Literal["interval", "cron", "contested"]

# How long after its minute began a cron entry still counts when the time of the last run is of no use.
_CRON_MINUTE = 60.0


def due(now: float, last_run: float, new_contested: int, learn: LearnSettings) -> Reason | None:
    """Why an update should start now, or None.

    Args:
        now: unix time, seconds.
        last_run: unix time, seconds, of the last update's start; before the first, of the learner's.
        new_contested: risky and contested events stored since then.
        learn: the operator's rules; each one that is set can start an update.

    A clock that was set back (`last_run` lies ahead) delays an update by at most one interval, or to cron's
    next minute: it never blocks until the clock has caught up.
    """
    if learn.cron is not None and _cron_passed(learn.cron, now, last_run):
        return "cron"
    if learn.interval_s is not None and abs(now - last_run) >= learn.interval_s:
        return "interval"
    if learn.min_contested is not None and new_contested >= learn.min_contested:
        return "contested"
    return None


def _cron_passed(cron: str, now: float, last_run: float) -> bool:
    # get_prev is strictly earlier than its start; half a second on, an entry at `now` counts as passed.
    fired = float(croniter(cron, now + 0.5).get_prev(float))
    if last_run <= now:
        return last_run < fired
    return now - fired < _CRON_MINUTE
