"""Adapters as labels of vLLM's own metrics."""

from __future__ import annotations

import pytest


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's, when vLLM is imported
def test_adapters_are_few_labels_however_many_come_and_go():
    from vllm.v1.metrics.stats import SchedulerStats

    from serving.engine.adapter_labels import TRIAL, VERSION, BoundedStates

    states, seen = BoundedStates(log_stats=True), set()
    for number in range(50):
        for request, name in enumerate((f"{TRIAL}{number}", f"{VERSION}{number}", "module", None)):
            states.request_waiting(f"{number}-{request}", name)
        states.request_running(f"{number}-1", f"{VERSION}{number}")
        states.update_scheduler_stats(stats := SchedulerStats())
        seen |= {(*stats.waiting_lora_adapters, "|", *stats.running_lora_adapters)}
        assert stats.running_lora_adapters["sirl"] == 1 and stats.waiting_lora_adapters["module"] == 1
        for request, name in enumerate((f"{TRIAL}{number}", f"{VERSION}{number}", "module", None)):
            states.request_finished(f"{number}-{request}", name)
    assert seen == {("sirl", "module", "|", "sirl", "module")} and not states.requests
