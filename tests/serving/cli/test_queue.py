"""`sirl queue`: listed, decided about."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from online.operations.installation import Installation
from tests.online.operations.installed import contested
from tests.serving.cli.conftest import Run


@pytest.fixture
def prompts(here: Installation, sirl: Run) -> list[str]:
    """The hashes of three prompts that wait, as the command lists them."""
    with here.buffer() as buffer:
        buffer.append([contested(number) for number in range(3)])
    return [one["prompt"] for one in json.loads(sirl("queue", "--all", "--json")[1])["prompts"]]


def test_what_is_held_back_is_listed_and_with_all_what_is_admitted(sirl: Run, prompts: list[str]) -> None:
    assert len(set(prompts)) == 3
    sirl("queue", "exclude", "--prompt", prompts[0])
    counts, *lines = sirl("queue")[1].splitlines()
    assert "1 excluded" in counts and prompts[0] in "".join(lines)
    with_all = sirl("queue", "--all", "--text")[1]
    assert all(prompt in with_all for prompt in prompts) and "'prompt 1'" in with_all
    assert "'prompt 1'" not in sirl("queue", "--all")[1], "texts are shown where they are asked for"


def test_a_client_is_excluded_by_its_key(sirl: Run, here: Installation, prompts: list[str]) -> None:
    assert sirl("queue", "exclude", "--client", "a-key")[0] == 0
    assert sirl("queue")[1].splitlines()[1].startswith("excluded clients: ")
    assert sirl("queue", "reset", "--client", "a-key")[0] == 0
    assert "excluded clients" not in sirl("queue")[1]


def test_a_prompt_is_redacted(sirl: Run, here: Installation) -> None:
    with here.buffer() as buffer:
        buffer.append([replace(contested(1), prompt="Write to jane@example.com")])
    (one,) = json.loads(sirl("queue", "--all", "--json")[1])["prompts"]
    assert sirl("queue", "redact", "--prompt", one["prompt"])[:2] == (0, "1 events are redacted.\n")
    assert "jane" not in sirl("queue", "--all", "--text")[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("approve",), "nothing is named to approve"),
        (("redact",), "nothing is named to redact"),
        (("redact", "--client", "a-key"), "use `sirl forget` for a client"),
        (("exclude", "--prompt", "nonsense"), "is no hash of a prompt"),
    ],
)
def test_what_cannot_be_decided_is_said(sirl: Run, words: tuple[str, ...], said: str) -> None:
    status, out, error = sirl("queue", *words)
    assert (status, out) == (1, "") and said in error
