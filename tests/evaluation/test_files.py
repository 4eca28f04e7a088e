"""Files of an evaluation: whole or not at all, line by line."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from evaluation.files import FileError, append_line, write_whole


def test_a_file_is_replaced_whole_and_is_its_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "report.md"
    for text in ("a" * 100, "é"):
        write_whole(file, text)
        assert file.read_text("utf-8") == text
    assert file.stat().st_mode & 0o777 == 0o600 and list(tmp_path.iterdir()) == [file]


def test_what_cannot_be_written_is_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    for path in (tmp_path / "nowhere" / "file", tmp_path / "taken"):
        with pytest.raises(FileError, match=r"cannot be written \(.*\): free some space, or name another place\.$"):
            write_whole(path, "text")
    assert list(tmp_path.iterdir()) == [tmp_path / "taken"]


def test_a_torn_line_is_closed_off_and_lines_of_threads_stay_apart(tmp_path: Path) -> None:
    file = tmp_path / "attempts.jsonl"
    file.write_text('{"torn": ')
    threads = [threading.Thread(target=append_line, args=(file, str(number) * 9000)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    torn, *lines = file.read_text().splitlines()
    assert torn == '{"torn": ' and sorted(lines) == [str(number) * 9000 for number in range(8)]
