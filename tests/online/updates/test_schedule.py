from datetime import UTC, datetime

import pytest

from online.settings.groups import LearnSettings
from online.updates.schedule import due

NOW = datetime(2026, 5, 4, 3, 0, tzinfo=UTC).timestamp()
HOUR = 3_600.0
NEVER = {"interval_s": None, "cron": None, "min_contested": None}


def learn(**values: object) -> LearnSettings:
    return LearnSettings.model_validate({**NEVER, **values})


def test_nothing_set_is_never_due() -> None:
    assert due(NOW, 0.0, 10**6, learn()) is None


def test_interval() -> None:
    rules = learn(interval_s=HOUR)
    assert due(NOW, NOW - HOUR + 1, 0, rules) is None
    assert due(NOW, NOW - HOUR, 0, rules) == "interval"


def test_contested() -> None:
    rules = learn(min_contested=200)
    assert due(NOW, NOW, 199, rules) is None
    assert due(NOW, NOW, 200, rules) == "contested"


def test_cron_is_utc_and_fires_once() -> None:
    rules = learn(cron="0 3 * * *")
    assert due(NOW - 1, NOW - HOUR, 0, rules) is None
    assert due(NOW, NOW - HOUR, 0, rules) == "cron"
    assert due(NOW + 3, NOW + 1, 0, rules) is None
    assert due(NOW + 20 * HOUR, NOW - HOUR, 0, rules) == "cron", "missed while the learner was down"


@pytest.mark.parametrize("jump", [10.0, 1e4, 1e9])
def test_a_clock_set_back_never_blocks(jump: float) -> None:
    last_run = NOW + jump
    assert any(due(NOW + step * 60, last_run, 0, learn(interval_s=HOUR)) for step in range(240))
    assert any(due(NOW + step * 5, last_run, 0, learn(cron="*/30 * * * *")) for step in range(5_000))
