"""Where the demo is: a bar on a terminal, and plain lines in a log file."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LINE_S = 15.0
"""Seconds between two lines of a step, where standard output is no terminal."""
LOOK_S = 0.2
"""Seconds between two looks whether a new stage of it has begun, which has a line at once."""
KNOWN = 0.05
"""Share done from which on the time that is left is told: before, it would be a guess."""


class Step:
    """One step of the demo: its share done (0 to 1) and a few words about it, shown until the step ends."""

    def __init__(self, title: str) -> None:
        self.title, self.share, self.note, self.stage = title, 0.0, "", ""
        self._began = time.monotonic()

    def at(self, share: float, note: str = "", *, stage: str = "") -> None:
        """Say how far it is, and in which of its stages."""
        self.share, self.note, self.stage = min(max(share, 0.0), 1.0), note, stage

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._began

    @property
    def left(self) -> float | None:
        """Seconds until it ends, by the pace so far; None while that says nothing."""
        return None if self.share < KNOWN else self.seconds * (1 - self.share) / self.share

    def line(self) -> str:
        """As a log file has it."""
        eta = "time left unknown" if self.left is None else f"about {spelt(self.left)} left"
        note = f" · {self.note}" if self.note else ""
        return f"{self.title}: {100 * self.share:.0f}% after {spelt(self.seconds)}, {eta}{note}"


@contextmanager
def showing(console: Console, title: str, *, bar: bool = True, every_s: float = LINE_S) -> Iterator[Step]:
    """Show a step until the block ends: on a terminal as a bar (unless the caller draws there itself), elsewhere as a line
    each `every_s` seconds and stage, from a thread of its own whatever the step waits for, and a last one at its end."""
    step = Step(title)
    if console.is_terminal and not bar:
        yield step
        return
    over = threading.Event()
    teller = threading.Thread(target=_tell, args=(console, step, over, every_s), name="sirl-demo-step", daemon=True)
    teller.start()
    try:
        yield step
        step.share = 1.0
    finally:
        over.set()
        teller.join()
    if not console.is_terminal:
        note = f" · {step.note}" if step.note else ""
        console.print(f"{title}: done after {spelt(step.seconds)}{note}", highlight=False, soft_wrap=True)


def _tell(console: Console, step: Step, over: threading.Event, every_s: float) -> None:
    if not console.is_terminal:
        stage, told = "", time.monotonic()
        while not over.wait(min(every_s, LOOK_S)):
            if step.stage != stage or time.monotonic() - told >= every_s:
                stage, told = step.stage, time.monotonic()
                console.print(step.line(), highlight=False, soft_wrap=True)
        return
    columns = (
        TextColumn("{task.description:32}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(step.title, total=1.0)
        while True:
            ended = over.wait(0.1)
            progress.update(task, completed=step.share, description=step.note or step.title)
            if ended:
                return


def spelt(seconds: float) -> str:
    """A duration as people say it: 45 s, 3 min 20 s."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
