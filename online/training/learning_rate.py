"""The learning rate: as given, or by the model's size."""

from __future__ import annotations

from online.settings.groups import PUBLISHED, UpdateSettings

BY_SIZE = ((50_000_000, 2e-3), (3_500_000_000, 1e-4), (float("inf"), 5e-5))
"""(parameters of the base that it holds up to, AdamW's rate for a LoRA adapter). The first was tried on 2.1 million,
the second on one of 0.5 billion (at twice the rate one step was too many: docs/evidence/real.md); the third is half of the
second, untried. What is called 3B has up to 3.3 billion."""


def learning_rate(settings: UpdateSettings, size: int) -> float:
    """What an update of a base of so many parameters learns at; all weights at the published rate (arXiv 2510.01088)."""
    if settings.learning_rate is not None:
        return settings.learning_rate
    if settings.tune == "full":
        return float(PUBLISHED["learning_rate"])
    return next(rate for most, rate in BY_SIZE if size <= most)
