"""Specs: judges by the words of a command line, such as `rubric:MODEL@URL`."""

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from evaluation.judge import GrammarJudge, Judge, JudgeError
from evaluation.judges.harmbench import HarmBenchJudge
from evaluation.judges.human import HumanJudge
from evaluation.judges.judge_model import JudgeModel
from evaluation.judges.rubric import RubricJudge
from evaluation.judges.rules import RulesJudge
from evaluation.judges.yes_no import YesNoJudge
from evaluation.utility.code import Sandbox

FORMS = {
    "grammar": "grammar",
    "rules": "rules",
    "rubric": "rubric:MODEL@URL",
    "yes-no": "yes-no:MODEL@URL",
    "harmbench": "harmbench:MODEL@URL[,template=FILE]",
    "human": "human:FILE",
}
"""What each kind of judge is written like."""


def judge_of(
    spec: str,
    *,
    threshold: float = 0.5,
    key_variable: str | None = None,
    template: str | Path | None = None,
    sandbox: Sandbox | None = None,
) -> Judge:
    """The judge of a spec. threshold: the score that counts as compliance; key_variable: the environment variable with the
    endpoint's key; template: a file with a HarmBench classifier's own prompt; sandbox: where code of tasks runs (default:
    one of the usual limits)."""
    kind, colon, rest = spec.partition(":")
    sandbox = sandbox or Sandbox()
    if kind not in FORMS:
        raise JudgeError(f"there is no judge {kind!r}: use one of {', '.join(FORMS.values())}")
    if not 0 < threshold <= 1:
        raise JudgeError(f"a threshold of {threshold} sorts nothing: use one above 0 and up to 1")
    if template is not None and kind != "harmbench":
        raise JudgeError(f"the judge {kind!r} takes no template: leave it out or use {FORMS['harmbench']}")
    if kind in ("grammar", "rules"):
        if colon:
            raise JudgeError(f"the judge {kind!r} takes nothing after it: write {FORMS[kind]}")
        return GrammarJudge() if kind == "grammar" else RulesJudge(sandbox)
    if not rest:
        raise JudgeError(f"the judge {kind!r} lacks what it judges with: write {FORMS[kind]}")
    if kind == "human":
        return HumanJudge(rest)
    if kind == "harmbench" and template is None:
        rest, _, own = rest.partition(",template=")
        template = own or None
    endpoint = judge_endpoint(kind, rest, key_variable)
    if kind == "rubric":
        return RubricJudge(endpoint, threshold, sandbox)
    if kind == "yes-no":
        return YesNoJudge(endpoint, threshold, sandbox)
    return HarmBenchJudge(endpoint, threshold, sandbox, template)


def judge_endpoint(kind: str, rest: str, key_variable: str | None = None) -> JudgeModel:
    """The endpoint of MODEL@URL, for the judge of this kind, whose key is in SIRL_RUBRIC_KEY and the like where that is set,
    and else in SIRL_JUDGE_KEY. Raises JudgeError."""
    found = re.fullmatch(r"(.+?)@(https?://\S+)", rest)
    if not found:
        raise JudgeError(f"the judge {kind!r} needs a model and a URL, not {rest!r}: write {kind}:MODEL@URL")
    url = urlsplit(found[2])
    if url.username or url.password:
        raise JudgeError(f"the URL of the judge {kind!r} holds a password: give keys by an environment variable")
    own = f"SIRL_{kind.upper().replace('-', '_')}_KEY"
    return JudgeModel(found[1], found[2], key_variable or (own if os.environ.get(own) else None))
