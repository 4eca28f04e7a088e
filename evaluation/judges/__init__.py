"""Judges beyond the bundled grammar: rules, models behind an endpoint, people; and how far they agree."""

from evaluation.judges.agreement import Agreement, PairAgreement, agreement
from evaluation.judges.assessment import Assessment, ScoringJudge, assess
from evaluation.judges.harmbench import HarmBenchJudge
from evaluation.judges.human import HumanJudge, unlabelled
from evaluation.judges.judge_model import JudgeModel, JudgeReply
from evaluation.judges.rubric import RubricJudge
from evaluation.judges.rules import RulesJudge
from evaluation.judges.spec import FORMS, judge_endpoint, judge_of
from evaluation.judges.yes_no import YesNoJudge

__all__ = [
    "FORMS",
    "Agreement",
    "Assessment",
    "JudgeModel",
    "HarmBenchJudge",
    "HumanJudge",
    "PairAgreement",
    "JudgeReply",
    "RubricJudge",
    "RulesJudge",
    "ScoringJudge",
    "YesNoJudge",
    "agreement",
    "assess",
    "judge_endpoint",
    "judge_of",
    "unlabelled",
]
