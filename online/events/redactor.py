"""The redactor: a process of its own that redacts texts, so that a slow text delays no answer.

Searching holds Python's global lock: in the server's process every stream would stand meanwhile. The child imports the
recognisers and nothing of ours beside them. It reads batches of texts on its standard input and ends when that ends, however
its parent died. A text that takes longer than its limit ends the child by a signal, which nothing in it can hold up; it is
begun anew for the rest.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from guard.errors import SirlError
from online.events.recognisers import PIECE, Finder, Span, spans

log = logging.getLogger("sirl")

LIMIT_S, LIMIT_PIECE_S = 10.0, 1.0
"""What a text may take, and what each further piece of it; a piece takes some 10 ms."""
START_LIMIT_S = 180.0
"""What a start may take: Presidio's models take some seconds each."""
MESSAGE = 1 << 20
"""Characters in one message to the child, but for a text that is longer."""
ROOT = Path(__file__).parents[2]
CHILD = "import sys; sys.path.insert(0, sys.argv[1]); from online.events.redactor import serve; serve()"
"""With -P, which keeps the working directory out of what is imported."""
ENTITIES = {
    "PERSON": "NAME", "PHONE_NUMBER": "PHONE", "CREDIT_CARD": "CARD", "IBAN_CODE": "IBAN", "IP_ADDRESS": "IP",
    "CRYPTO": "KEY",
}  # fmt: skip
"""What Presidio calls the kinds. Mails are found without it, which would ask the network for a list of domains."""


class RedactionError(SirlError):
    """A redactor that is asked for is not installed, or does not start."""


def redact(text: str, find: Finder = spans) -> str:
    """The text with each span replaced by the name of its kind, such as <EMAIL>; spans that overlap become one, of the kind
    that was found first."""
    found = [(start, end, rank, kind) for rank, (start, end, kind) in enumerate(find(text))]
    parts, at = [], 0
    for start, end, kind in _merged(found):
        parts += [text[at:start], f"<{kind}>"]
        at = end
    return "".join(parts) + text[at:]


def _merged(found: Iterable[tuple[int, int, int, str]]) -> Iterator[Span]:
    last: tuple[int, int, int, str] | None = None
    for start, end, rank, kind in sorted(found):
        if last is not None and start < last[1]:
            rank, kind = min((last[2], last[3]), (rank, kind))
            last = last[0], max(last[1], end), rank, kind
            continue
        if last is not None:
            yield last[0], last[1], last[3]
        last = start, end, rank, kind
    if last is not None:
        yield last[0], last[1], last[3]


def check_installed(pipelines: Mapping[str, str]) -> None:
    """Raises RedactionError where Presidio, or one of these spaCy pipelines by language, is not there."""
    if find_spec("presidio_analyzer") is None:
        raise RedactionError("Presidio is not installed: pip install 'sirl-guard[presidio]'.")
    for name in pipelines.values():
        if not Path(name).is_dir() and (not name.isidentifier() or find_spec(name) is None):  # Presidio would download it
            raise RedactionError(f"the spaCy pipeline {name} is not installed: python -m spacy download {name}.")


def presidio(pipelines: Mapping[str, str]) -> Finder:
    """Presidio's recognisers beside the built-in rules, with a spaCy pipeline a language, such as {"en": "en_core_web_lg"}.

    Raises RedactionError where it, or a pipeline, is not installed.
    """
    check_installed(pipelines)
    from presidio_analyzer import AnalyzerEngine
    from presidio_analyzer.nlp_engine import NlpEngineProvider

    models = [{"lang_code": language, "model_name": name} for language, name in pipelines.items()]
    engine = NlpEngineProvider(nlp_configuration={"nlp_engine_name": "spacy", "models": models}).create_engine()
    analyzer = AnalyzerEngine(nlp_engine=engine, supported_languages=list(pipelines))

    def find(text: str) -> Iterator[Span]:
        yield from spans(text)
        for language in pipelines:
            for found in analyzer.analyze(text, language, entities=list(ENTITIES)):
                yield found.start, found.end, ENTITIES[found.entity_type]

    return find


def serve(find: Finder | None = None) -> None:
    """The child. For each line of its input, a JSON list of texts, it writes a line a text: that redacted, or null."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for the parent, which may have texts yet
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what a library prints is no reply
    signal.setitimer(signal.ITIMER_REAL, START_LIMIT_S)
    pipelines = json.loads(sys.argv[2])
    find = find or (presidio(pipelines) if pipelines else spans)
    signal.setitimer(signal.ITIMER_REAL, 0)
    with suppress(BrokenPipeError):  # the parent is gone
        out.write(b"ready\n")
        for line in sys.stdin.buffer:
            for text in json.loads(line):
                signal.setitimer(signal.ITIMER_REAL, LIMIT_S + LIMIT_PIECE_S * (len(text) // PIECE))
                reply = _attempt(text, find)
                signal.setitimer(signal.ITIMER_REAL, 0)
                out.write(json.dumps(reply).encode() + b"\n")


def _attempt(text: str, find: Finder) -> str | None:
    try:
        return redact(text, find)
    except Exception as error:  # of others' recognisers: what they choke on must neither be stored whole nor stop us
        print(f"redaction broke: {type(error).__name__}", file=sys.stderr)  # its message may quote the text
        return None


class Redactor:
    """Redacts batches of texts in a process of its own, which is started when it is needed and begun anew when it dies.

    Args:
        pipelines: spaCy pipelines by language, for Presidio's recognisers as well.

    Raises:
        RedactionError: Presidio, or a pipeline, is not installed.
    """

    def __init__(self, pipelines: Mapping[str, str] | None = None, code: str = CHILD) -> None:
        if pipelines:
            check_installed(pipelines)
        self._command = [sys.executable, "-P", "-c", code, str(ROOT), json.dumps(dict(pipelines or {}))]
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False
        self._complained = False

    @property
    def pid(self) -> int | None:
        """Of its process, while there is one."""
        process = self._process
        return None if process is None else process.pid

    def start(self) -> None:
        """Start the process and wait until it is ready. Raises RedactionError."""
        with self._lock:
            self._started()

    def __call__(self, texts: Sequence[str]) -> list[str | None]:
        """Each text redacted; None for one on which that broke or took too long."""
        done: list[str | None] = []
        with self._lock:
            died_at = -1
            while len(done) < len(texts) and not self._closed:
                try:
                    for part in _messages(texts[len(done) :]):
                        self._exchange(part, done)
                except RedactionError as error:
                    self._complain(str(error))
                    break
                except OSError:
                    status = self._end()
                    if status == -signal.SIGALRM:
                        self._complain("A text took longer than its limit to redact.")
                        done.append(None)
                    elif died_at == len(done):  # a second time on this text
                        self._complain(f"The redactor died of a text ({status}).")
                        done.append(None)
                    else:
                        died_at = len(done)
        return done + [None] * (len(texts) - len(done))

    def close(self) -> None:
        """Ends the process; what it has not redacted by then is not."""
        self._closed = True
        if (process := self._process) is not None:
            process.kill()
        with self._lock:
            self._end()

    def _exchange(self, texts: Sequence[str], done: list[str | None]) -> None:
        """Appends replies as they come. Raises OSError where the process died, RedactionError where it does not start."""
        process = self._started()
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(texts).encode() + b"\n")
        process.stdin.flush()
        for _ in texts:
            line = process.stdout.readline()
            if not line.endswith(b"\n"):
                raise BrokenPipeError
            done.append(json.loads(line))

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            try:
                self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            except OSError as error:
                raise RedactionError(f"The redactor cannot be started ({error.strerror}).") from None
            assert self._process.stdout is not None
            if self._process.stdout.readline() != b"ready\n":
                raise RedactionError(f"The redactor ended at its start (status {self._end()}): see its error output above.")
        return self._process

    def _end(self) -> int | None:
        """Its exit status; it is gone, or on its way."""
        process, self._process = self._process, None
        if process is None:
            return None
        for pipe in filter(None, (process.stdin, process.stdout)):
            with suppress(OSError):
                pipe.close()
        try:
            return process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def _complain(self, what: str) -> None:
        if not self._complained:
            log.warning("%s What cannot be redacted is kept without its text; this is said once.", what)
        self._complained = True


def _messages(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    start = size = 0
    for at, text in enumerate(texts):
        if at > start and size + len(text) > MESSAGE:
            yield texts[start:at]
            start, size = at, 0
        size += len(text)
    yield texts[start:]
