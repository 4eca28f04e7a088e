"""A whole service without an engine behind it: what administration and the HTTP edge need of one is there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from online.operations.installation import Installation
from online.settings.groups import GuardSettings
from online.settings.settings import Settings

if TYPE_CHECKING:
    from serving.lifecycle.service import Service


@contextmanager
def offline(
    folder: Path, model: Path = Path("model"), guard: GuardSettings | None = None, modules: tuple[str, ...] = ()
) -> Iterator[Service]:
    """The service of a model, its state in a folder, until the block ends. What a model without a folder lacks, it lacks."""
    from serving.engine.served import Served
    from serving.lifecycle.service import Service
    from serving.metrics import Metrics
    from serving.processes.learner_process import LearnerProcess
    from serving.request.policies import Policies

    settings = Settings(state_dir=folder / "state", guard=guard or GuardSettings())
    engine = SimpleNamespace(vllm_config=SimpleNamespace(scheduler_config=SimpleNamespace(max_num_seqs=8)))
    tokenizer = SimpleNamespace(encode=lambda text, **_: [], decode=lambda tokens: "")
    served = Served(("model",), tokenizer, None, "", modules, lambda names: None, 4)
    learner = LearnerProcess([], folder / "learner.log", supervise=False)
    here = Installation.of(settings, model)
    service = Service(here, engine, served, Policies(settings.guard), learner, Metrics(CollectorRegistry()))
    try:
        yield service
    finally:
        service.close()
