"""What a client may ask of the guard."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from serving.request.guard_options import GuardOptions


def test_all_of_it_may_be_left_out() -> None:
    assert GuardOptions() == GuardOptions(report=True, trace=False, mode=None, action=None, threshold=None)
    asked = GuardOptions.model_validate({"mode": "enforce", "action": "regenerate", "threshold": 0, "report": False})
    assert (asked.mode, asked.action, asked.threshold, asked.report) == ("enforce", "regenerate", 0.0, False)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"tracing": True}, "tracing"),
        ({"trace": 1}, "trace"),
        ({"report": "yes"}, "report"),
        ({"mode": "off"}, "mode"),
        ({"action": "none"}, "action"),
        ({"threshold": 1.01}, "threshold"),
        ({"threshold": "0.5"}, "threshold"),
        ({"threshold": float("nan")}, "threshold"),
        ([], ""),
    ],
)
def test_what_is_wrong_is_refused_by_name(given: object, name: str) -> None:
    with pytest.raises(ValidationError) as refused:
        GuardOptions.model_validate(given)
    assert [error["loc"] for error in refused.value.errors()] == ([(name,)] if name else [()])
