"""The flags of `sirl eval`."""

from __future__ import annotations

import pytest

from evaluation.command.flags import parser
from evaluation.judges import FORMS
from evaluation.peers import PEERS
from evaluation.suites import SETS


def test_what_can_be_named_is_named_in_the_help() -> None:
    told = "".join(parser().format_help().split())  # lines are broken at hyphens too
    for name in (
        *SETS,
        *(peer.form.split(":")[0] for peer in PEERS.values()),
        *(form.split(":")[0] for form in FORMS.values()),
    ):
        assert name in told


@pytest.mark.parametrize("flag", ["--limit", "--queries", "--max-tokens", "--at-once"])
@pytest.mark.parametrize("value", ["0", "-3", "many"])
def test_counts_begin_with_one(flag: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args([f"{flag}={value}"])
    assert flag in capsys.readouterr().err


def test_what_may_come_several_times_is_kept_in_order() -> None:
    args = parser().parse_args("--suite a --suite b=c --judge rules --seeds 3 1 --defence keyword".split())
    assert (args.suite, args.judge, args.seeds, args.defence) == (["a", "b=c"], ["rules"], [3, 1], ["keyword"])
