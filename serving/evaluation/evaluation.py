"""One evaluation: who is asked what, and where it goes."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
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
from online.evaluation.judges import judge_of
from online.evaluation.peers import Manner, defended
from online.evaluation.suite import Prompt
from online.evaluation.suites import load
from online.state import write_atomic

OURS = {"store": False}
"""Sent to an endpoint with our guard: what an evaluation asks is nobody's traffic, and must teach nothing."""
GRAMMATICAL = "I can't assist with this request."
"""A refusal in the bundled grammar."""
WARNING = "holds harmful requests and what was answered"


class EvaluationError(OnlineError):
    """An evaluation that cannot be begun; one sentence with cause and mend."""


@dataclass(frozen=True, slots=True)
class Found:
    """What came of it: the target's attempts, those behind each known defence, and the other one's of a comparison."""

    attempts: list[Attempt]
    peers: dict[str, list[Attempt]]
    versus: list[Attempt] | None


@dataclass
class Evaluation:
    """From the flags to everybody's attempts."""

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
        if args.pairwise and versus is None:
            raise EvaluationError("--pairwise compares with --versus: name the other one as well.")
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

    async def run(self) -> Found:
        """Ask everybody. Raises EndpointError where nobody answers."""
        async with AsyncExitStack() as ends:
            for endpoint in (self.target, self.versus, *self.others.values()):
                if isinstance(endpoint, Endpoint):
                    ends.push_async_callback(endpoint.client.close)
            return await self._run()

    async def _run(self) -> Found:
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
        return Found(found, peers, await self.other_side(every))

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
