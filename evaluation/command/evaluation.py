"""One evaluation: who is asked what, and where it goes."""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import models
from evaluation.attacks import ATTACKS, Attack, Query, load_templates
from evaluation.attempt import Attempt, Case, cases, drawn
from evaluation.campaign import Budget, Campaign, reread
from evaluation.endpoint import Endpoint, EndpointError, Target
from evaluation.files import write_whole
from evaluation.judge import GrammarJudge, Judge
from evaluation.judges import judge_endpoint, judge_of
from evaluation.pairwise import reference
from evaluation.peers import Manner, defended
from evaluation.suite import Prompt
from evaluation.suites import load
from evaluation.utility.code import files_are_safe
from guard.errors import SirlError
from models.recipe import grammar

OURS = {"store": False}
"""Sent to an endpoint with our guard: what an evaluation asks is nobody's traffic, and must teach nothing."""
GRAMMATICAL = "I can't assist with this request."
"""A refusal in the bundled grammar."""
WARNING = "holds harmful requests and what was answered"
NOTE = "campaign.json"
WRITERS = {"attacker": 1000, "translator": 1000}
"""Tokens that these may write at least, however short the target's answers are to be."""
DECISIVE = ("temperature", "max_tokens", "queries")
"""Flags without which no two evaluations are alike."""


class EvaluationError(SirlError):
    """An evaluation that cannot be begun; one sentence with cause and mend."""


@dataclass(frozen=True, slots=True)
class Found:
    """What came of it: all cases, the target's attempts, those behind each known defence, and the other one's of a
    comparison."""

    cases: list[Case]
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
        """From flags. Raises SirlError where they do not fit."""
        bundled = not args.suite
        suites = args.suite or [models.suite("test")]
        prompts = gathered(suites)
        specs = args.judge or ["grammar" if bundled else "rules"]
        judges = {spec: judge_of(spec) for spec in specs}
        one_key_one_host(judges.values(), args.pairwise, args.defence)
        own = load_templates(args.templates) if args.templates else {}
        attacks = chosen(args.attacks, {**ATTACKS, **own})
        target = endpoint_of(args.model, args)
        roles = {role: spec for role in ("attacker", "translator") if (spec := getattr(args, role))}
        manner = manner_of(next(iter(judges.values())))
        versus: Endpoint | Path | None = args.versus and Path(args.versus)
        if any((p.check or {}).get("kind") == "unit_tests" for p in prompts) and not files_are_safe():
            raise EvaluationError(
                "the suite has unit tests to run, and nothing here keeps a program from its user's files: install "
                "bubblewrap, use a kernel with Landlock, or leave that suite out."
            )
        if args.pairwise and versus is None and not any(map(reference, prompts)):
            raise EvaluationError(
                "--pairwise compares with --versus, or with the reference outputs of a suite such as alpacaeval: name one."
            )
        if isinstance(versus, Path) and not versus.is_dir():
            versus = endpoint_of(args.versus, args, "versus")
        return cls(
            args,
            drawn(prompts, args.limit),
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
        able = {*self.others, *await look(target)}
        for other in self.others.values():
            other.extra = target.extra if other.url == target.url else other.extra
        every = cases(self.prompts, self.possible(able), args.seeds)
        found = await self.asked(target, every, args.out, f"{target.model} at {target.url}")
        peers = {}
        for spec, behind in self.peers.items():
            peers[spec] = await self.asked(behind, every, args.out / plain(spec), f"{target.model} behind {spec}")
        return Found(every, found, peers, await self.other_side(every))

    def possible(self, able: set[str]) -> list[Attack]:
        """The attacks that can be made with what there is; says which are left out, and why."""
        lacking, long = "what they need is not here (--list-attacks)", "they try nothing within --queries"
        why = {
            attack.name: lacking if not attack.needs <= able else long if attack.fewest > self.args.queries else None
            for attack in self.attacks
        }
        for reason in (lacking, long):
            if names := [name for name, of in why.items() if of == reason]:
                print(f"left out, for {reason}: {', '.join(names)}")
        return [attack for attack in self.attacks if why[attack.name] is None]

    async def other_side(self, every: Sequence[Case]) -> list[Attempt] | None:
        """What the other one of a comparison made of the same."""
        other = self.versus
        if other is None:
            return None
        if isinstance(other, Path):
            alike(noted(other), self.settings(""), other)
            return reread(other)
        await look(other)
        folder = self.args.out / plain(f"versus {self.args.versus}")
        return await self.asked(other, every, folder, f"{other.model} at {other.url}")

    async def asked(self, target: Target, every: Sequence[Case], folder: Path, what: str) -> list[Attempt]:
        """A campaign in a folder of its own, which is taken up where it was left."""
        args = self.args
        claim(folder, self.settings(what))
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

    def settings(self, what: str) -> dict[str, Any]:
        """What a folder's attempts are made by."""
        args = self.args
        named = {name: getattr(args, name) for name in (*DECISIVE, "attacker", "translator")}
        own = args.templates and sha256(args.templates.read_bytes()).hexdigest()[:16]
        return {"target": what, "judge": next(iter(self.judges)), **named, "templates": own}


def gathered(suites: Sequence[str | Path]) -> list[Prompt]:
    """The prompts of all suites. Raises EvaluationError where two share an id."""
    prompts: dict[str, Prompt] = {}
    for suite in suites:
        for prompt in load(suite):
            other = prompts.setdefault(prompt.id, prompt)
            if (other.messages, other.turns) != (prompt.messages, prompt.turns):
                raise EvaluationError(f"two prompts of the suites have the id {prompt.id!r}: give them ids of their own.")
    return list(prompts.values())


def one_key_one_host(judges: Iterable[Judge], pairwise: str | None, defences: Iterable[str]) -> None:
    """Raises EvaluationError where a key would be sent to several hosts."""
    asked = [endpoint for judge in judges if (endpoint := getattr(judge, "endpoint", None))]
    asked += [judge_endpoint("pairwise", pairwise)] if pairwise else []
    sent = [(endpoint.key_variable, endpoint.where) for endpoint in asked]
    sent += [("LLM_GUARD_API_KEY", spec.partition("@")[2]) for spec in defences if spec.startswith("llm-guard:")]
    for name in {name for name, _ in sent if os.environ.get(name)}:
        hosts = sorted({host for other, host in sent if other == name})
        if len(hosts) > 1:
            raise EvaluationError(
                f"{name} would be sent to {' and '.join(hosts)}: give each judge a key of its own, such as SIRL_RUBRIC_KEY, "
                "or ask one of them at a time."
            )


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
    if urlsplit(url).password:
        raise EvaluationError("a URL holds a password: give keys by an environment variable (--key).")
    key = f"SIRL_{role.upper()}_KEY" if found and role else args.key
    longest = max(args.max_tokens, WRITERS.get(role or "", 0))
    return Endpoint(url, model, key, args.at_once, args.temperature, longest)


async def look(endpoint: Endpoint) -> set[str]:
    """Ask it one thing: which model it serves where none was named, whether our guard is behind it, and whether it gives
    logprobs; returns what of the last two ("guard", "logprobs") there is. Raises EndpointError where it does not answer."""
    if not endpoint.model:
        endpoint.model = next(iter(await endpoint.models()), "")
    hello = Query(({"role": "user", "content": "Hello."},), max_tokens=1)
    endpoint.extra = OURS
    try:
        reply = await endpoint.ask(replace(hello, logprobs=1), 0)
    except EndpointError as error:
        if not error.unfit:
            raise
        endpoint.extra = {}  # some take offence at what they do not know
        reply = await endpoint.ask(hello, 0)
    endpoint.extra = OURS if reply.guard is not None else {}
    return {name for name, there in (("guard", reply.guard is not None), ("logprobs", reply.logprobs)) if there}


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
    if (folder / NOTE).exists() and noted(folder) != dict(settings):
        raise EvaluationError(f"{folder} holds an evaluation with other settings: give another --out, or remove it.")
    write_whole(folder / NOTE, json.dumps(dict(settings), indent=1))


def noted(folder: Path) -> dict[str, Any]:
    """What a folder's campaign is of. Raises EvaluationError where it does not say."""
    try:
        return dict(json.loads((folder / NOTE).read_text()))
    except (OSError, ValueError, TypeError):
        raise EvaluationError(f"{folder} holds no evaluation: name the --out of one.") from None


def alike(theirs: Mapping[str, Any], ours: Mapping[str, Any], folder: Path) -> None:
    """Raises EvaluationError where two campaigns cannot be compared."""
    if differing := [name for name in ("judge", *DECISIVE) if theirs.get(name) != ours[name]]:
        raise EvaluationError(
            f"{folder} was asked with another {' and another '.join(differing)}, so a comparison would say nothing of the "
            "endpoints: evaluate again with the same."
        )
