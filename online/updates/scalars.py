"""Scalars: an update's metrics for TensorBoard, step by step, where its extra is installed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger("sirl")

Note = Callable[[Mapping[str, float]], None]


@contextmanager
def scalars(folder: Path | None, step: int) -> Iterator[Note]:
    """Takes each step's metrics and writes them into a folder; what an earlier life wrote there from `step` on is void.

    Without a folder nothing is written, nor without the package, which is said: a viewer that is missing must not cost an
    update.
    """
    if folder is None:
        yield lambda metrics: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        log.warning("update.tensorboard needs a package that is missing: pip install 'sirl-guard[tensorboard]'.")
        yield lambda metrics: None
        return
    with SummaryWriter(str(folder), purge_step=step) as writer:

        def note(metrics: Mapping[str, float]) -> None:
            for name, value in metrics.items():
                if name != "step":
                    writer.add_scalar(name, value, int(metrics["step"]))
            writer.flush()

        yield note
