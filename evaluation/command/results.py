"""What is written of an evaluation: page, JSON and tables, and a few lines for the terminal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import repeat
from typing import Any, TypeVar

from tqdm import tqdm

from evaluation.attempt import Attempt, as_asked, said
from evaluation.command.evaluation import WARNING, Evaluation, Found
from evaluation.files import write_whole
from evaluation.judge import Judge, JudgeError, Outcome
from evaluation.judges import Agreement, agreement, judge_endpoint, unlabelled
from evaluation.lm_eval_harness import lm_eval
from evaluation.page import markdown, page, summary
from evaluation.pairwise import PairwiseJudge, reference, reply, win_rate
from evaluation.scorecard import differences, scorecard
from evaluation.suite import Prompt
from guard.errors import SirlError

T = TypeVar("T")


def report(evaluation: Evaluation, found: Found) -> None:
    """Write all of it into the folder, and where it was asked for; print ids and counts, and what --show asks for."""
    args, target, scores = evaluation.args, evaluation.target, scorecard(found.attempts, found.cases)
    changes = None if found.versus is None else differences(found.versus, found.attempts)
    beside = {spec: scorecard(attempts, found.cases) for spec, attempts in found.peers.items()} or None
    about = {
        "endpoint": target.url,
        "model": target.model,
        "judge": ", ".join(evaluation.judges),
        "date": datetime.now(UTC).date().isoformat(),
        "seeds": " ".join(map(str, args.seeds)),
        "queries for a goal": str(args.queries),
        "temperature": f"{args.temperature:g}" if "temperature" not in target.dialect.left_out else "the endpoint's own",
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
            write_whole(path, content)
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
            except SirlError as error:
                document[name] = {"error": str(error)}
                print(f"{name}: {error}")

    by_id = {prompt.id: prompt for prompt in evaluation.prompts}
    heard = [one for one in found.attempts if one.outcome is not None]
    read = [one for one in heard if not one.filtered]  # of what a filter withheld there is nothing to read
    if args.label:
        count = unlabelled((pair for one in read for pair in said(by_id[one.prompt], one)), args.label)
        print(f"{args.label} {WARNING}: {count} responses to label, then --judge human:{args.label}")
    with ThreadPoolExecutor(args.at_once) as pool:
        add("agreement", len(evaluation.judges) > 1, lambda: agreement_entry(*agreed(evaluation.judges, read, by_id, pool)))
        add(
            "pairwise",
            args.pairwise,
            lambda: better(args.pairwise, heard, rivals(found, by_id), by_id, pool),
        )
    add("lm_eval", args.lm_eval, lambda: lm_eval(args.lm_eval, evaluation.target, args.out / "lm-eval"))
    return document


def agreed(
    judges: dict[str, Judge], heard: Sequence[Attempt], by_id: dict[str, Prompt], pool: ThreadPoolExecutor
) -> tuple[Agreement, int]:
    """How far the judges agree on the same responses, and how many of these some judge could not read. Tasks are left out:
    their own check decides them. Raises JudgeError where nothing could be read by all."""
    asked = [one for one in heard if one.kind != "task"]
    first, *rest = judges
    verdicts = {first: [one.outcome for one in asked]}
    prompts, responses = [as_asked(by_id[one.prompt], one.messages) for one in asked], [one.response for one in asked]
    for name in rest:
        verdicts[name] = list(
            shown(pool.map(tried, repeat(judges[name].judge), prompts, responses), f"judging: {name}", prompts)
        )
    rows = [row for row in zip(*verdicts.values(), strict=True) if None not in row]
    if asked and not rows:
        raise JudgeError("no response was read by all judges: see that each of them answers")
    return agreement({name: [str(row[at]) for row in rows] for at, name in enumerate(judges)}), len(asked) - len(rows)


def shown(found: Iterable[T], what: str, asked: Sequence[object]) -> Iterable[T]:
    """The same, with a progress bar."""
    bar: Iterable[T] = tqdm(found, what, len(asked), unit="response")
    return bar


def tried(judge: Callable[..., Any], *asked: Any) -> Any:
    """What a judge says; None where it cannot."""
    try:
        return judge(*asked)
    except JudgeError:
        return None


def agreement_entry(agree: Agreement, unread: int) -> dict[str, Any]:
    """Agreement between judges, for JSON."""
    pairs = [
        {"first": pair.first, "second": pair.second, "share": pair.share.to_dict(), "kappa": pair.kappa.to_dict()}
        for pair in agree.pairs
    ]
    return {"pairs": pairs, "fleiss": agree.fleiss and agree.fleiss.to_dict(), "unread": unread}


def rivals(found: Found, by_id: Mapping[str, Prompt]) -> dict[str, str]:
    """What our replies are compared with, by case: the other one's, or else what the suite has for reference."""
    if found.versus is None:
        known = {case.key: reference(case.prompt) for case in found.cases}
        return {key: said for key, said in known.items() if said is not None}
    heard = [one for one in found.versus if one.outcome is not None and one.prompt in by_id]
    return {one.key: reply(by_id[one.prompt], one) for one in heard}


def better(
    spec: str, ours: Sequence[Attempt], theirs: Mapping[str, str], by_id: Mapping[str, Prompt], pool: ThreadPoolExecutor
) -> dict[str, Any]:
    """How often our replies to harmless prompts are better than theirs, ties counting half. Raises JudgeError."""
    judge = PairwiseJudge(judge_endpoint("pairwise", spec))
    asked = [one for one in ours if one.kind != "harmful" and one.key in theirs]
    prompts = [by_id[one.prompt] for one in asked]
    replies = [reply(by_id[one.prompt], one) for one in asked]
    others = [theirs[one.key] for one in asked]
    found = list(shown(pool.map(tried, repeat(judge.compare), prompts, replies, others), "comparing", asked))
    winners = [winner for winner in found if winner is not None]
    if found and not winners:
        raise JudgeError("the pairwise judge gave no verdict at all: see that it answers and follows instructions")
    return win_rate(winners).to_dict() | {"unread": len(found) - len(winners)}
