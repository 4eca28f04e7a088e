"""Another model as a guard: it reads the question, and the answer, and calls them safe or unsafe."""

import re
from dataclasses import dataclass, replace

from evaluation.attacks.attack import Messages, Query
from evaluation.endpoint import Endpoint, Reply, Target
from evaluation.peers.peer import Manner, Peer, PeerError, options
from evaluation.peers.refusal import REFUSAL, refused, total

FORM = "llm-guard:MODEL@URL[,when=both|before|after]"
VERDICT = 16
"""Tokens that the guard may answer with: its verdict is the first word."""


@dataclass(frozen=True, slots=True)
class LLMGuard:
    """Asks the guard about the conversation before the target is asked, and with its response after, or once of both. It
    speaks Llama Guard's way: the conversation is its chat, without system messages, and its answer begins with "safe" or
    "unsafe". Any other answer is taken for unsafe: an attack may aim at the guard, too."""

    target: Target
    guard: Target
    before: bool = True
    after: bool = True
    refusal: str = REFUSAL

    async def ask(self, query: Query, seed: int) -> Reply:
        """The response, or a refusal of what is unsafe; tokens: the guard's among them. Raises EndpointError."""
        read: list[Reply] = []
        if self.before and not await self.safe(query.messages, seed, read):
            return refused(self.refusal, total(*read))
        reply = await self.target.ask(query, seed)
        answered = (*query.messages, {"role": "assistant", "content": reply.text})
        if self.after and not await self.safe(answered, seed, read):
            return refused(self.refusal, total(reply, *read))
        return replace(reply, tokens=total(reply, *read))

    async def safe(self, messages: Messages, seed: int, read: list[Reply]) -> bool:
        """The guard's word on what is said last; its reply is added to `read`."""
        chat = tuple(one for one in messages if one.get("role") in ("user", "assistant"))
        read.append(await self.guard.ask(Query(chat, temperature=0.0, max_tokens=VERDICT), seed))
        return re.match(r"\s*safe\b", read[-1].text, re.IGNORECASE) is not None


def build(given: str, target: Target, manner: Manner) -> Target:
    model, _, rest = given.partition("@")
    url, _, others = rest.partition(",")
    when = options(FORM, others, {"when": "both"})["when"]
    if not model or not url.startswith(("http://", "https://")) or when not in ("both", "before", "after"):
        raise PeerError(f"llm-guard:{given} names no guard: write {FORM}, the URL such as http://127.0.0.1:8001/v1.")
    guard = Endpoint(url, model, manner.key)
    return LLMGuard(target, guard, when != "after", when != "before", manner.refusal)


PEER = Peer(
    name="llm-guard",
    form=FORM,
    about="Refuses what another model, made for it, calls unsafe, asked or answered.",
    source="Llama Guard: LLM-based Input-Output Safeguard for Human-AI Conversations, arXiv:2312.06674",
    build=build,
)
