"""The learner process beside the server: started, watched, restarted with patience, stopped with it."""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from time import monotonic

from serving.processes import interpreter

log = logging.getLogger("sirl")

PATIENCE_S = (1.0, 5.0, 30.0, 300.0)
"""Waits before the first, second, third and every later restart of a learner that ended by itself."""

NICE = 5
"""Added to the learner's niceness. It stays in the server's session, for Linux shares CPU time between sessions first and a
niceness counts within one only."""


class LearnerProcess:
    """Runs `sirl learn` when asked to supervise one, and single `sirl update`s on request.

    Its own process at low priority, so that a training step never holds the server's event loop or its memory. A
    pipe from us is its standard input: should we be killed, it reads the end and stops.
    """

    def __init__(self, flags: Sequence[str], log_path: Path, *, supervise: bool) -> None:
        self.flags, self.log_path, self.supervise = list(flags), log_path, supervise
        self._process: subprocess.Popen[bytes] | None = None
        self._update: subprocess.Popen[bytes] | None = None
        self._restarts, self._not_before = 0, 0.0

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def updating(self) -> bool:
        """Whether an update started by request is under way."""
        return self._update is not None and self._update.poll() is None

    def check(self) -> None:
        """Start the supervised learner, or start it again when its patience is over."""
        if not self.supervise or self.running or monotonic() < self._not_before:
            return
        if self._process is not None:
            wait = PATIENCE_S[min(self._restarts, len(PATIENCE_S) - 1)]
            log.warning("the learner ended with status %s; its log is %s", self._process.returncode, self.log_path)
            self._process, self._restarts, self._not_before = None, self._restarts + 1, monotonic() + wait
            return
        self._process = self._start("learn")

    def update(self) -> bool:
        """Start one update now; False when one started here is still running."""
        if self.updating:
            return False
        self._update = self._start("update")
        return True

    def _start(self, command: str) -> subprocess.Popen[bytes]:
        with self.log_path.open("ab") as output:
            process = subprocess.Popen(
                interpreter.command("serving", command, "--while-parent", *self.flags),
                env=interpreter.environment(),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,  # Ctrl-C is for the server, which then stops this in its own order
            )
        # From here, for code of ours between fork and exec may deadlock in a process with threads (Python 3.12 warns of it).
        os.setpriority(os.PRIO_PROCESS, process.pid, os.getpriority(os.PRIO_PROCESS, 0) + NICE)
        return process

    def stop(self, timeout: float = 10.0) -> None:
        """End what runs; an update that is killed resumes from its checkpoint the next time."""
        self.supervise = False
        for process in (self._process, self._update):
            if process is None:
                continue
            with process:  # closes its standard input
                process.terminate()
                try:
                    process.wait(timeout)
                except subprocess.TimeoutExpired:
                    process.kill()
