"""Suites from local files and, by name, from public sets."""

from online.evaluation.suites.loader import load
from online.evaluation.suites.public import SETS, PublicSet

__all__ = ["SETS", "PublicSet", "load"]
