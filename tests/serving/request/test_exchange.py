"""What is known of a request and of its answers."""

from __future__ import annotations

import pytest

from serving.request.exchange import number


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_json_cannot_hold_are_null(value):
    assert number(value) is None
