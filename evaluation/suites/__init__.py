"""Suites from local files and, by name, from public sets."""

from evaluation.suites.loader import load
from evaluation.suites.public import SETS, PublicSet

__all__ = ["SETS", "PublicSet", "load"]
