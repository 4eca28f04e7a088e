"""The evaluation core that gate, demo and benchmarks share: suites, judges, statistics and figures."""

from online.evaluation.judge import GrammarJudge, Judge, JudgeError, Outcome, outcomes, wanted
from online.evaluation.report import summarise, to_dict
from online.evaluation.statistics import Figure
from online.evaluation.suite import Prompt, from_row, load_suite

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
