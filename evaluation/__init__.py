"""The evaluation core that gate, demo and benchmarks share: suites, judges, statistics and figures."""

from evaluation.judge import GrammarJudge, Judge, JudgeError, Outcome, outcomes, wanted
from evaluation.statistics import Figure
from evaluation.suite import Prompt, from_row, load_suite
from evaluation.summary import summarise, to_dict

__all__ = [
    "Figure",
    "GrammarJudge",
    "Judge",
    "JudgeError",
    "Outcome",
    "Prompt",
    "from_row",
    "load_suite",
    "outcomes",
    "summarise",
    "to_dict",
    "wanted",
]
