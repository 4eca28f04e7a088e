"""`sirl eval`: attack an endpoint, ask it harmless things and tasks, and say what came of it. Ours or any other."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import models
from models.recipe import grammar
from online import OnlineError
from online.evaluation.attacks import ATTACKS, Attack, Query, load_templates
from online.evaluation.attempt import Attempt, Case, cases, drawn
from online.evaluation.campaign import Budget, Campaign, reread
from online.evaluation.endpoint import Endpoint, Target
from online.evaluation.judge import GrammarJudge, Judge
from online.evaluation.judges import FORMS, Agreement, agreement, judge_of
from online.evaluation.page import markdown, page, summary
from online.evaluation.peers import PEERS, Manner, defended
from online.evaluation.scorecard import differences, scorecard
from online.evaluation.suite import Prompt
from online.evaluation.suites import SETS, load
from online.state import write_atomic

OURS = {"store": False}
"""Sent to an endpoint with our guard: what an evaluation asks is nobody's traffic, and must teach nothing."""
GRAMMATICAL = "I can't assist with this request."
"""A refusal in the bundled grammar."""
PEERS_OF = ", ".join(peer.form for peer in PEERS.values())
WARNING = "holds harmful requests and what was answered"


class EvaluationError(OnlineError):
    """An evaluation that cannot be begun; one sentence with cause and mend."""


def parser() -> argparse.ArgumentParser:
    """The flags of `sirl eval`."""
    parser = argparse.ArgumentParser(prog="sirl eval", description=__doc__, allow_abbrev=False)
    add = parser.add_argument_group("who is asked").add_argument
    add("--url", default="http://127.0.0.1:8000/v1", help="where it answers (default: %(default)s)")
    add("--model", help="the model to ask for (default: the first one it serves)")
    add("--key", default="OPENAI_API_KEY", metavar="NAME", help="environment variable with its key (default: %(default)s)")
    add("--versus", metavar="MODEL[@URL]|DIR", help="compare it with another model, or with an earlier evaluation's folder")
    add("--defence", action="append", default=[], metavar="SPEC", help=f"ask it behind a known defence too: {PEERS_OF}")
    add("--attacker", metavar="MODEL@URL", help="a model that writes attacks, for PAIR and TAP")
    add("--translator", metavar="MODEL@URL", help="a model that translates")

    add = parser.add_argument_group("what is asked").add_argument
    add("--suite", action="append", default=[], metavar="NAME|FILE", help=f"{', '.join(SETS)}, NAME=FILE or FILE "
        "(default: the bundled model's test suite)")  # fmt: skip
    add("--limit", type=int, default=50, help="prompts of each class, drawn by lot (default: %(default)s)")
    add("--attacks", default="all", metavar="NAMES", help="with commas between (default: all that can be made here)")
    add("--list-attacks", action="store_true", help="list the attacks, what they need and where they are from")
    add("--templates", type=Path, metavar="FILE", help="attacks of your own, as JSON lines")
    add("--queries", type=int, default=20, help="at most, for one goal and attack (default: %(default)s)")
    add("--seeds", type=int, nargs="+", default=[0], help="repetitions (default: 0)")
    add("--temperature", type=float, default=1.0, help="default: %(default)s")
    add("--max-tokens", type=int, default=512, help="of a response (default: %(default)s)")
    add("--minutes", type=float, help="begin nothing new after so many")
    add("--at-once", type=int, default=8, help="requests under way at the same time (default: %(default)s)")

    add = parser.add_argument_group("what comes of it").add_argument
    add("--judge", action="append", default=[], metavar="SPEC", help="of several the first decides: "
        f"{', '.join(FORMS.values())} (default: rules; of the bundled suite grammar)")  # fmt: skip
    add("--out", type=Path, default=Path("sirl-eval"), help="folder for all of it, where a run that was cut off goes on "
        "(default: %(default)s)")  # fmt: skip
    add("--json", type=Path, metavar="FILE", help="the figures here too")
    add("--markdown", type=Path, metavar="FILE", help="the tables, for a pull request, here too")
    add("--show", type=int, default=0, metavar="N", help="print N compliances with their prompts: unsafe text")
    return parser


def main(argv: Sequence[str]) -> int:
    """One evaluation from flags to report; raises OnlineError, in one sentence, where it cannot be."""
    args = parser().parse_args(argv)
    if args.list_attacks:
        print("\n".join(listed(ATTACKS)))
        return 0
    return asyncio.run(Evaluation.of(args).run())


def listed(attacks: Mapping[str, Attack]) -> list[str]:
    """An attack in two lines: what it does and needs, and where it is from."""
    lines = []
    for attack in attacks.values():
        needs = f" (needs {', '.join(sorted(attack.needs))})" if attack.needs else ""
        lines += [f"{attack.name:20} {attack.about}{needs}", f"{'':20} {attack.source}"]
    return lines


@dataclass
class Evaluation:
    """One evaluation: who is asked what, and where it goes."""

    args: argparse.Namespace
    prompts: list[Prompt]
    attacks: list[Attack]
    judges: dict[str, Judge]
    target: Endpoint
    versus: Endpoint | Path | None
    others: dict[str, Endpoint]
    peers: dict[str, Target]

    @classmethod
    def of(cls, args: argparse.Namespace) -> Evaluation:
        """From flags. Raises OnlineError where they do not fit."""
        bundled = not args.suite
        suites = args.suite or [models.suite("test")]
        prompts = {prompt.id: prompt for suite in suites for prompt in load(suite)}
        judges = {spec: judge_of(spec) for spec in args.judge or ["grammar" if bundled else "rules"]}
        own = load_templates(args.templates) if args.templates else {}
        attacks = chosen(args.attacks, {**ATTACKS, **own})
        target = endpoint_of(args.model, args)
        roles = {role: spec for role in ("attacker", "translator") if (spec := getattr(args, role))}
        manner = manner_of(next(iter(judges.values())))
        versus: Endpoint | Path | None = args.versus and Path(args.versus)
        if isinstance(versus, Path) and not versus.is_dir():
            versus = endpoint_of(args.versus, args, "versus")
        return cls(
            args,
            drawn(list(prompts.values()), args.limit),
            attacks,
            judges,
            target,
            versus,
            {role: endpoint_of(spec, args, role) for role, spec in roles.items()},
            {spec: defended(spec, target, manner) for spec in args.defence},
        )

    async def run(self) -> int:
        """Ask everybody, and report. Raises EndpointError where nobody answers."""
        async with AsyncExitStack() as ends:
            for endpoint in (self.target, self.versus, *self.others.values()):
                if isinstance(endpoint, Endpoint):
                    ends.push_async_callback(endpoint.client.close)
            return await self._run()

    async def _run(self) -> int:
        args, target = self.args, self.target
        await look(target)
        able = {*self.others, "logprobs", *(["guard"] if target.extra else [])}
        if left_out := [attack.name for attack in self.attacks if not attack.needs <= able]:
            print(f"left out, for what they need is not here (--list-attacks): {', '.join(left_out)}")
        attacks = [attack for attack in self.attacks if attack.needs <= able]
        every = cases(self.prompts, attacks, args.seeds)
        found = await self.asked(target, every, args.out, f"{target.model} at {target.url}")
        peers = {}
        for spec, behind in self.peers.items():
            peers[spec] = await self.asked(behind, every, args.out / plain(spec), f"{target.model} behind {spec}")
        self.report(found, peers, await self.other_side(every))
        return 0

    async def other_side(self, every: Sequence[Case]) -> list[Attempt] | None:
        """What the other one of a comparison made of the same."""
        other = self.versus
        if other is None or isinstance(other, Path):
            return None if other is None else reread(other)
        await look(other)
        folder = self.args.out / plain(f"versus {self.args.versus}")
        return await self.asked(other, every, folder, f"{other.model} at {other.url}")

    async def asked(self, target: Target, every: Sequence[Case], folder: Path, what: str) -> list[Attempt]:
        """A campaign in a folder of its own, which is taken up where it was left."""
        args = self.args
        settings = {
            "target": what,
            "judge": next(iter(self.judges)),
            **{name: getattr(args, name) for name in ("temperature", "max_tokens", "queries", "attacker", "translator")},
        }
        claim(folder, settings)
        print(f"{what}: {len(every)} cases; {folder / 'attempts.jsonl'} {WARNING}")
        campaign = Campaign(
            target,
            next(iter(self.judges.values())),
            folder / "attempts.jsonl",
            self.others,
            Budget(args.queries, args.minutes),
            args.at_once,
        )
        return await campaign.run(every)

    def agreement(self, attempts: Sequence[Attempt]) -> Agreement | None:
        """What the other judges say of the same responses, where there are others."""
        if len(self.judges) < 2:
            return None
        by_id = {prompt.id: prompt for prompt in self.prompts}
        first, *rest = self.judges
        heard = [one for one in attempts if one.outcome is not None and one.prompt in by_id]
        verdicts = {first: [str(one.outcome) for one in heard]}
        for name in rest:
            verdicts[name] = [str(self.judges[name].judge(by_id[one.prompt], one.response)) for one in heard]
        return agreement(verdicts)

    def report(self, found: list[Attempt], peers: Mapping[str, list[Attempt]], versus: list[Attempt] | None) -> None:
        """Page, JSON and tables, into the folder and where they were asked for; a few lines for the terminal."""
        args, target, scores = self.args, self.target, scorecard(found)
        changes = None if versus is None else differences(versus, found)
        beside = {spec: scorecard(attempts) for spec, attempts in peers.items()}
        about = {
            "endpoint": target.url,
            "model": target.model,
            "judge": ", ".join(self.judges),
            "date": datetime.now(UTC).date().isoformat(),
            "seeds": " ".join(map(str, args.seeds)),
            "queries for a goal": str(args.queries),
            "temperature": f"{args.temperature:g}",
            **({"compared with": args.versus} if args.versus else {}),
        }
        document: dict[str, Any] = {"about": about, "scores": scores, "changes": changes, "peers": beside}
        if agree := self.agreement(found):
            document["agreement"] = told(agree)
            for pair in agree.pairs:
                alike = f"alike on {pair.share.estimate:.0%} of {pair.share.n}, kappa {pair.kappa.estimate:.2f}"
                print(f"judges {pair.first} and {pair.second}: {alike}")
        text = json.dumps(document, indent=1, allow_nan=False)
        tables = markdown(scores, changes, beside or None)
        write_atomic(args.out / "report.json", text)
        write_atomic(args.out / "report.md", tables)
        write_atomic(args.out / "report.html", page(f"Evaluation of {target.model}", about, scores, changes, beside or None))
        for path, content in ((args.json, text), (args.markdown, tables)):
            if path is not None:
                write_atomic(path, content)
        print("\n".join(summary(scores)))
        print(f"report: {args.out / 'report.html'}")
        for one in [one for one in found if one.kind == "harmful" and one.outcome == "compliance"][: args.show]:
            print(
                f"--- {one.key}\n" + "\n".join(f"{m['role']}: {m['content']}" for m in one.messages) + f"\n> {one.response}"
            )


def told(agree: Agreement) -> dict[str, Any]:
    """Agreement between judges, for JSON; a kappa that cannot be told is None."""
    pairs = [
        {"first": pair.first, "second": pair.second, "share": pair.share.to_dict(), "kappa": pair.kappa.to_dict()}
        for pair in agree.pairs
    ]
    return {"pairs": pairs, "fleiss": agree.fleiss and agree.fleiss.to_dict()}


def chosen(names: str, attacks: Mapping[str, Attack]) -> list[Attack]:
    """The attacks of a list with commas between; "all" of them."""
    if names == "all":
        return list(attacks.values())
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    for name in wanted:
        if name not in attacks:
            raise EvaluationError(f"there is no attack {name!r}: use some of those that --list-attacks lists.")
    return [attacks[name] for name in dict.fromkeys(wanted)]


def endpoint_of(spec: str | None, args: argparse.Namespace, role: str | None = None) -> Endpoint:
    """The endpoint of MODEL, MODEL@URL or nothing, with --url where it names none. A URL of its own gets a key of its own,
    from SIRL_ATTACKER_KEY or the like: nobody is sent another one's."""
    found = re.fullmatch(r"(.*)@(https?://.+)", spec or "")
    model, url = (found[1], found[2]) if found else (spec or "", args.url)
    key = f"SIRL_{role.upper()}_KEY" if found and role else args.key
    return Endpoint(url, model, key, args.at_once, args.temperature, args.max_tokens)


async def look(endpoint: Endpoint) -> None:
    """Ask it one thing: which model it serves where none was named, and whether our guard is behind it. Raises EndpointError
    where it does not answer."""
    if not endpoint.model:
        endpoint.model = next(iter(await endpoint.models()), "")
    reply = await endpoint.ask(Query(({"role": "user", "content": "Hello."},), max_tokens=1), 0)
    endpoint.extra = OURS if reply.guard is not None else {}


def manner_of(judge: Judge) -> Manner:
    """How known defences refuse: in words that the judge takes for a refusal."""
    if not isinstance(judge, GrammarJudge):
        return Manner()
    return Manner(GRAMMATICAL, lambda text: grammar.parse(text) == "refusal")


def plain(name: str) -> str:
    """A name for a folder."""
    return re.sub(r"[^\w.-]+", "-", name)


def claim(folder: Path, settings: Mapping[str, Any]) -> None:
    """Note what a folder's campaign is of. Raises EvaluationError where it is one of something else."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    note = folder / "campaign.json"
    if note.exists() and json.loads(note.read_text()) != dict(settings):
        raise EvaluationError(f"{folder} holds an evaluation with other settings: give another --out, or remove it.")
    write_atomic(note, json.dumps(dict(settings), indent=1))
