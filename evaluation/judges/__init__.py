"""Judges beyond the bundled grammar: rules, models behind an endpoint, people; and how far they agree."""

from online.evaluation.judges.agreement import Agreement, PairAgreement, agreement
from online.evaluation.judges.assessment import Assessment, ScoringJudge, assess
from online.evaluation.judges.endpoint import Endpoint, Reply
from online.evaluation.judges.harmbench import HarmBenchJudge
from online.evaluation.judges.human import HumanJudge, unlabelled
from online.evaluation.judges.rubric import RubricJudge
from online.evaluation.judges.rules import RulesJudge
from online.evaluation.judges.spec import FORMS, judge_endpoint, judge_of
from online.evaluation.judges.yes_no import YesNoJudge

__all__ = [
    "FORMS",
    "Agreement",
    "Assessment",
    "Endpoint",
    "HarmBenchJudge",
    "HumanJudge",
    "PairAgreement",
    "Reply",
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
