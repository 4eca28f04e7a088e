"""What the operating system refuses is told in one sentence with its mend."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from online.state.errors import StateError, explained

PATH = Path("/somewhere/state")


@pytest.mark.parametrize(
    ("number", "mend"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "free some space"),
        (errno.EACCES, "mend its owner and permissions"),
        (errno.EROFS, "mount it for writing"),
        (errno.ENOLCK, "choose another --state-dir"),
        (errno.ENOTDIR, "lies under a file"),
        (errno.EIO, "check that the state directory is there and sound"),
    ],
)
def test_each_error_names_its_mend(number: int, mend: str) -> None:
    with pytest.raises(StateError) as said, explained(PATH):
        raise OSError(number, "whatever the system says")
    text = str(said.value)
    assert text.startswith(str(PATH)) and mend in text and text.endswith(".") and "\n" not in text
    assert isinstance(said.value.__cause__, OSError)


def test_other_errors_are_left_as_they_are() -> None:
    with pytest.raises(ValueError, match="else"), explained(PATH):
        raise ValueError("else")
