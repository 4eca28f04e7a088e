"""What is written of an evaluation: page, JSON and tables, and a few lines for the terminal."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from online import OnlineError
from online.evaluation.attempt import Attempt
from online.evaluation.harness import lm_eval
from online.evaluation.judge import Judge, Outcome
from online.evaluation.judges import Agreement, agreement, judge_endpoint
from online.evaluation.page import markdown, page, summary
from online.evaluation.scorecard import differences, scorecard
from online.evaluation.suite import Prompt
from online.evaluation.utility.pairwise import PairwiseJudge, win_rate
from online.state import write_atomic
from serving.evaluation.evaluation import Evaluation, Found


def report(evaluation: Evaluation, found: Found) -> None:
    """Write all of it into the folder, and where it was asked for; print ids and counts, and what --show asks for."""
    args, target, scores = evaluation.args, evaluation.target, scorecard(found.attempts)
    changes = None if found.versus is None else differences(found.versus, found.attempts)
    beside = {spec: scorecard(attempts) for spec, attempts in found.peers.items()} or None
    about = {
        "endpoint": target.url,
        "model": target.model,
        "judge": ", ".join(evaluation.judges),
        "date": datetime.now(UTC).date().isoformat(),
        "seeds": " ".join(map(str, args.seeds)),
        "queries for a goal": str(args.queries),
        "temperature": f"{args.temperature:g}",
        **({"compared with": args.versus} if args.versus else {}),
    }
    document: dict[str, Any] = {"about": about, "scores": scores, "changes": changes, "peers": beside}
    document |= further(evaluation, found)
    text, tables = json.dumps(document, indent=1, allow_nan=False), markdown(scores, changes, beside)
    for path, content in (
        (args.out / "report.json", text),
        (args.out / "report.md", tables),
        (args.out / "report.html", page(f"Evaluation of {target.model}", about, scores, changes, beside)),
        (args.json, text),
        (args.markdown, tables),
    ):
        if path is not None:
            write_atomic(path, content)
    print("\n".join(summary(scores)))
    print(f"report: {args.out / 'report.html'}")
    reached = [one for one in found.attempts if one.kind == "harmful" and one.outcome is Outcome.COMPLIANCE]
    for one in reached[: args.show]:
        talk = "\n".join(f"{turn['role']}: {turn['content']}" for turn in one.messages)
        print(f"--- {one.key}\n{talk}\n> {one.response}")


def further(evaluation: Evaluation, found: Found) -> dict[str, Any]:
    """What other judges and programs say. What one of them cannot say is a sentence, and takes nothing from the rest."""
    args, document = evaluation.args, {}

    def add(name: str, wanted: object, work: Callable[[], Any]) -> None:
        if wanted:
            try:
                document[name] = work()
                print(f"{name}: {json.dumps(document[name])}")
            except OnlineError as error:
                document[name] = {"error": str(error)}
                print(f"{name}: {error}")

    by_id = {prompt.id: prompt for prompt in evaluation.prompts}
    heard = [one for one in found.attempts if one.outcome is not None and one.prompt in by_id]
    with ThreadPoolExecutor(args.at_once) as pool:
        add("agreement", len(evaluation.judges) > 1, lambda: told(agreed(evaluation.judges, heard, by_id, pool)))
        add(
            "pairwise", args.pairwise and found.versus, lambda: better(args.pairwise, heard, found.versus or [], by_id, pool)
        )
    add("lm_eval", args.lm_eval, lambda: lm_eval(args.lm_eval, evaluation.target, args.out / "lm-eval"))
    return document


def agreed(
    judges: dict[str, Judge], heard: Sequence[Attempt], by_id: dict[str, Prompt], pool: ThreadPoolExecutor
) -> Agreement:
    """What the other judges say of the same responses. Raises JudgeError."""
    first, *rest = judges
    verdicts = {first: [str(one.outcome) for one in heard]}
    for name in rest:
        said = pool.map(lambda one, judge=judges[name]: judge.judge(by_id[one.prompt], one.response), heard)
        verdicts[name] = list(map(str, said))
    return agreement(verdicts)


def told(agree: Agreement) -> dict[str, Any]:
    """Agreement between judges, for JSON."""
    pairs = [
        {"first": pair.first, "second": pair.second, "share": pair.share.to_dict(), "kappa": pair.kappa.to_dict()}
        for pair in agree.pairs
    ]
    return {"pairs": pairs, "fleiss": agree.fleiss and agree.fleiss.to_dict()}


def better(
    spec: str, ours: Sequence[Attempt], theirs: Sequence[Attempt], by_id: dict[str, Prompt], pool: ThreadPoolExecutor
) -> dict[str, Any]:
    """How often our answers to harmless prompts are better than the other one's, ties counting half. Raises JudgeError."""
    judge, other = (
        PairwiseJudge(judge_endpoint("pairwise", spec)),
        {one.key: one for one in theirs if one.outcome is not None},
    )
    pairs = [(one, other[one.key]) for one in ours if one.kind != "harmful" and one.key in other]
    winners = list(pool.map(lambda two: judge.compare(by_id[two[0].prompt], two[0].response, two[1].response), pairs))
    return win_rate(winners).to_dict()
