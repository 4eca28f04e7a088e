"""The learner's process beside the server."""

from __future__ import annotations

import os

from serving.processes.learner_process import NICE, LearnerProcess


def test_an_update_yields_the_processor_to_the_server(tmp_path):
    learner = LearnerProcess(["--state-dir", str(tmp_path / "state")], tmp_path / "learner.log", supervise=False)
    try:
        assert learner.update() and not learner.update(), "one at a time"
        assert learner._update is not None
        own = os.getpriority(os.PRIO_PROCESS, 0)
        assert os.getpriority(os.PRIO_PROCESS, learner._update.pid) == min(19, own + NICE), "the kernel knows no lower one"
    finally:
        learner.stop()
