"""vLLM's schedulers, held to what a request may take from the prefix cache."""

from __future__ import annotations

from typing import Any

from vllm.config import SchedulerConfig
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler

from serving.engine.cache_bound import CacheBound


class BoundScheduler(Scheduler):
    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.sirl_bound = CacheBound(self.kv_cache_manager)


class BoundAsyncScheduler(AsyncScheduler):
    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.sirl_bound = CacheBound(self.kv_cache_manager)


def choose(config: SchedulerConfig) -> None:
    """Take ours in place of vLLM's own. A scheduler that the operator named (--scheduler-cls), or that a kind of model
    needs, stays: h is then absent where the place that it is read at was taken from the cache."""
    if config.scheduler_cls is None:
        config.scheduler_cls = BoundAsyncScheduler if config.async_scheduling else BoundScheduler
