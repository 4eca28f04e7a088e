"""The process that redacts: it is quick, small, dies with its parent, and no text takes it or the others away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from online.events import redactor
from online.events.buffer import Buffer
from online.events.recognisers import spans
from online.events.redaction import Preparation
from online.events.redactor import RedactionError, Redactor, redact
from online.events.writer import BufferWriter
from online.settings.groups import BufferSettings
from online.state.directory import StateDir
from tests.online.events.traffic import make, stored, until

# Finds what the texts below ask for: to break, to die, to search for ever.
FINDS = """
import sys; sys.path.insert(0, sys.argv[1])
import os, re, signal
from online.events import redactor
from online.events.recognisers import spans
redactor.LIMIT_S = 0.5
def find(text):
    if text == "break": raise RuntimeError(text)
    if text == "die": os.kill(os.getpid(), signal.SIGKILL)
    if text == "for ever": re.match(r"(?:a+)+$", "a" * 64 + "b")
    if text == "print": print("noise")
    return spans(text)
redactor.serve(find)
"""


@pytest.fixture
def working() -> Iterator[Redactor]:
    with closing(Redactor()) as one:
        one.start()
        yield one


def alive(pid: int) -> bool:
    try:
        return b") Z" not in Path(f"/proc/{pid}/stat").read_bytes()
    except FileNotFoundError:
        return False


def test_it_redacts_as_the_rules_do(working: Redactor) -> None:
    texts = [
        "Mail j@example.com",
        "nothing",
        "",
        "line\nbreak\u2028 \ud800 call me Ishmael",
        "\0",
        "x" * 3_000_000,
        "j@example.com " * 99_999,
    ]
    assert working(texts) == [redact(text) for text in texts] and working([]) == []  # fmt: skip


def test_it_imports_little() -> None:
    code = "import sys, online.events.redactor; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "vllm", "transformers", "numpy", "sqlalchemy", "pydantic"} & set(run.stdout.split())


def test_what_a_text_does_to_it_is_that_texts_alone(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture) -> None:
    with closing(Redactor(code=FINDS)) as one:
        texts = ["call me Ishmael", "break", "a", "for ever", "b", "die", "c", "print", "d@example.com", "for ever"]
        assert one(texts) == ["call me <NAME>", None, "a", None, "b", None, "c", "print", "<EMAIL>", None]
        assert one(["e"]) == ["e"]
    assert "longer than its limit" in caplog.text and caplog.text.count("without its text") == 1
    assert "RuntimeError" in capfd.readouterr().err


def test_one_that_is_killed_is_begun_anew(working: Redactor) -> None:
    for _ in range(2):
        assert working.pid is not None
        os.kill(working.pid, signal.SIGKILL)
        assert working(["call me Ishmael", "x"]) == ["call me <NAME>", "x"]
    os.kill(working.pid or 0, signal.SIGTERM)  # a signal to the whole group: the server has texts to flush yet
    os.kill(working.pid or 0, signal.SIGINT)
    before = working.pid
    assert working(["x"]) == ["x"] and working.pid == before


def test_one_that_does_not_start_says_so_and_keeps_no_text(caplog: pytest.LogCaptureFixture) -> None:
    with closing(Redactor(code="raise SystemExit(3)")) as one:
        with pytest.raises(RedactionError, match=r"status 3.*\.$"):
            one.start()
        assert one(["a", "b"]) == [None, None] and "status 3" in caplog.text


def test_closed_it_ends_even_in_the_middle_of_a_text() -> None:
    one = Redactor(code=FINDS.replace("LIMIT_S = 0.5", "LIMIT_S = 600"))
    one.start()

    def ticks() -> int:
        return int(Path(f"/proc/{one.pid}/stat").read_text().rsplit(")", 1)[1].split()[11])

    begun, found = ticks(), []
    thread = threading.Thread(target=lambda: found.extend(one(["a", "for ever", "b"])))
    thread.start()
    until(lambda: ticks() > begun + 30)  # the first text takes none
    pid = one.pid
    one.close()
    thread.join(10.0)
    assert found == ["a", None, None] and pid is not None and not alive(pid) and one(["c"]) == [None]


PARENT = """
import sys, time
from online.events.redactor import Redactor
one = Redactor(); one.start()
print(one.pid, flush=True)
time.sleep(600)
"""


def test_it_dies_with_its_parent_however_that_dies() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.kill()
    until(lambda: not alive(pid))


def test_nothing_is_imported_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("guard", "online", "phonenumbers", "json", "signal"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(7)")
    monkeypatch.chdir(tmp_path)
    with closing(Redactor()) as one:
        one.start()
        assert one(["call me Ishmael"]) == ["call me <NAME>"]


def test_a_text_that_takes_long_holds_up_nobody_here() -> None:
    """The lock that Python holds while it searches is the child's own."""
    with closing(Redactor(code=FINDS.replace("LIMIT_S = 0.5", "LIMIT_S = 2.0"))) as one:
        one.start()
        thread = threading.Thread(target=one, args=(["for ever"],))
        thread.start()
        ticks = 0
        while thread.is_alive():
            ticks += 1
            time.sleep(0.001)
        assert ticks > 100, "a search in this process would have let none pass"


def test_the_writer_loses_nothing_whatever_becomes_of_it(tmp_path: Path) -> None:
    """Events are stored in order, those that broke the redactor without their text, while it is killed again and again."""
    state, settings = StateDir(tmp_path), BufferSettings(flush_interval_s=0.01, batch_size=16)
    preparation = Preparation(settings, lambda text: list(text.encode()), state.client_salt())
    preparation.redactor.close()
    preparation.redactor = Redactor(code=FINDS)
    preparation.redaction = replace(preparation.redaction, redact=preparation.redactor)
    writer = BufferWriter(lambda: Buffer(state.buffer_url, settings), state, settings, prepare=preparation)
    odd = {30: "for ever", 50: "break", 60: "die"}
    events = [replace(make(at), prompt=odd.get(at, f"{at} for j@example.com")) for at in range(100)]
    for at, event in enumerate(events):
        assert writer.offer(event)
        if at % 20 == 0 and (pid := preparation.redactor.pid):
            os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
    assert writer.flush(60.0) and writer.close()
    preparation.close()
    found = stored(state)
    assert [event.id for event in found] == [event.id for event in events]
    for at, event in enumerate(found):
        if at in odd:
            assert odd[at] not in event.to_json() and not event.response
        else:
            assert event.prompt == f"{at} for <EMAIL>", "a kill costs no text"


def test_what_is_hostile_to_the_rules_takes_no_longer_than_its_like() -> None:
    """The text that held the server up: once more, and through the process."""
    text = "token is" + " " * 16_000
    assert list(spans(text)) == []
    with closing(Redactor()) as one:
        assert one([text] * 20) == [text] * 20
    assert redactor.LIMIT_S >= 5.0, "what is slow on a busy machine is not taken for hostile"
