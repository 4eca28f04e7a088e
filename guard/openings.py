"""Refusal openings: a prefix tree of token sequences, learned from the model's own refusals.

Real models begin refusals and answers with the same first token ("I"), so an opening is a sequence. The tree holds the
shortest sequences that tell the two apart, and every mass in this project is a probability of taking one of its paths.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from guard.reasoning import THINKING, Reasoning

LEFT = -1
"""The walk is outside the tree: the response opened with something else."""
MATCHED = -2
"""The walk has completed an opening."""
ROOT = 0
DEPTH = 12
"""Tokens of the longest opening that is looked for: "I'm sorry, but as an AI language model" has about ten."""
NODES = 64
"""Inner nodes of a learned tree at most. Each is a token more of every pass that reads the tree behind a prompt."""

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Openings:
    """A prefix-free set of openings and, for each inner node, how often reaching it ends in a refusal.

    sequences: token ids of each opening; a sequence that extends another is dropped (the shorter one decides).
    values: mean probability that an opening completes once this prefix is reached; an inner node without one counts 1.
    reasoning: of a model that thinks before it answers; the root then is where its answer begins.
    spellings: other ids of a first token (" I", "\"I" beside "I"), with which a refusal begins behind other words.
    """

    sequences: tuple[Tokens, ...]
    values: Mapping[Tokens, float] = field(default_factory=dict)
    reasoning: Reasoning | None = None
    spellings: Mapping[int, Tokens] = field(default_factory=dict)
    _nodes: tuple[dict[int, int], ...] = field(init=False, repr=False, compare=False)
    prefixes: tuple[Tokens, ...] = field(init=False, repr=False, compare=False)
    """Token prefix of each inner node, by node id; the root's is empty."""
    _first: Mapping[int, int] = field(init=False, repr=False, compare=False)
    """The opening's own first token for each of its spellings."""

    def __post_init__(self) -> None:
        kept: set[Tokens] = set()
        for sequence in sorted({tuple(map(int, s)) for s in self.sequences if len(s)}, key=lambda s: (len(s), s)):
            if not any(sequence[:n] in kept for n in range(1, len(sequence))):
                kept.add(sequence)
        ordered = tuple(sorted(kept))
        inner: dict[Tokens, int] = {(): ROOT}
        for prefix in sorted({s[:n] for s in ordered for n in range(1, len(s))}, key=lambda p: (len(p), p)):
            inner[prefix] = len(inner)
        nodes: list[dict[int, int]] = [{} for _ in inner]
        for sequence in ordered:
            for n in range(len(sequence)):
                prefix, child = sequence[:n], sequence[: n + 1]
                nodes[inner[prefix]][sequence[n]] = inner.get(child, MATCHED)
        object.__setattr__(self, "sequences", ordered)
        object.__setattr__(self, "values", {tuple(map(int, k)): float(v) for k, v in self.values.items()})
        object.__setattr__(self, "_nodes", tuple(nodes))
        object.__setattr__(self, "prefixes", tuple(inner))
        spelled = {int(token): tuple(map(int, others)) for token, others in self.spellings.items()}
        object.__setattr__(self, "spellings", spelled)
        root = nodes[ROOT]
        first = {other: token for token in sorted(spelled.keys() & root) for other in spelled[token] if other not in root}
        object.__setattr__(self, "_first", first)

    def __bool__(self) -> bool:
        return bool(self.sequences)

    @property
    def depth(self) -> int:
        """Tokens in the longest opening."""
        return max(map(len, self.sequences), default=0)

    def begin(self, prompt: Sequence[int] = ()) -> int:
        """Where a response to these prompt tokens starts: at the root, or THINKING."""
        return THINKING if self.reasoning and self.reasoning.thinks(prompt) else ROOT

    def step(self, node: int, token: int) -> int:
        """The node after `token`: an inner node's id, THINKING, or LEFT or MATCHED, which are final."""
        if node in (LEFT, MATCHED):
            return node
        if self.reasoning and node in (ROOT, THINKING):
            thinking = self.reasoning.step(node == THINKING, token)
            if thinking is not None:
                return THINKING if thinking else ROOT
        return self._nodes[node].get(token, LEFT)

    def anew(self, token: int) -> int:
        """The node after `token` where an answer may begin anew, behind other words."""
        return self._nodes[ROOT].get(self._first.get(token, token), LEFT)

    def walk(self, tokens: Iterable[int], node: int = ROOT) -> int:
        """Where a response stands that goes on from `node` with `tokens`."""
        for token in tokens:
            if (node := self.step(node, token)) in (LEFT, MATCHED):
                break
        return node

    def matched(self, tokens: Iterable[int]) -> bool:
        """Whether a response with these tokens opened as a refusal."""
        return self.walk(tokens) == MATCHED

    def children(self, node: int) -> tuple[tuple[int, float], ...]:
        """(token, weight) of each way on from an inner node; the weight is 1 where the token completes an opening."""
        prefix = self.prefixes[node]
        return tuple(
            (token, 1.0 if child == MATCHED else self.values.get((*prefix, token), 1.0))
            for token, child in sorted(self._nodes[node].items())
        )

    def anew_children(self) -> tuple[tuple[int, float], ...]:
        """(token, weight) of each way into the tree behind other words: the root's children in all their spellings."""
        weights = dict(self.children(ROOT))
        return (*weights.items(), *((other, weights[token]) for other, token in sorted(self._first.items())))

    @classmethod
    def learn(
        cls,
        refusals: Sequence[Sequence[int]],
        others: Sequence[Sequence[int]],
        *,
        sources: Sequence[Hashable] | None = None,
        depth: int = DEPTH,
        purity: float = 0.95,
        support: float = 0.004,
        nodes: int = NODES,
    ) -> Openings:
        """The shortest prefixes that say "refusal": at least `purity` of the class-normalised weight on the refusals' side.

        A prefix must open at least `support` of the refusals, and those of two sources, so that one odd sample founds
        nothing; one that is mixed is extended up to `depth` tokens and dropped if it stays mixed. sources: what each refusal
        answers; None: each something else. Of openings whose tree has over `nodes` inner nodes the rarest are left out.
        Those of up to some length are the same at every greater `depth` that `nodes` has room for.
        """
        if not refusals or not others:
            return cls(())
        counts = [
            Counter(tuple(s[:n]) for s in side for n in range(1, min(depth, len(s)) + 1)) for side in (refusals, others)
        ]
        least = max(2, support * len(refusals))
        often = [prefix for prefix, count in counts[0].items() if count >= least]
        answered: dict[Tokens, set[Hashable]] = {prefix: set() for prefix in often}
        for refusal, source in zip(refusals, sources or range(len(refusals)), strict=True):
            for n in range(1, min(depth, len(refusal)) + 1):
                if (prefix := tuple(refusal[:n])) in answered:
                    answered[prefix].add(source)
        found: set[Tokens] = set()
        for prefix in sorted(often, key=len):
            if len(answered[prefix]) < 2 or any(prefix[:n] in found for n in range(1, len(prefix))):
                continue
            ours, theirs = counts[0][prefix] / len(refusals), counts[1][prefix] / len(others)
            if ours / (ours + theirs) >= purity:
                found.add(prefix)
        kept: list[Tokens] = []
        inner: set[Tokens] = {()}
        for prefix in sorted(found, key=lambda prefix: (-counts[0][prefix], len(prefix), prefix)):
            grown = inner | {prefix[:n] for n in range(1, len(prefix))}
            if len(grown) <= nodes:
                kept.append(prefix)
                inner = grown
        return cls(tuple(kept))

    def to_json(self) -> dict[str, object]:
        """Plain lists and numbers; :meth:`from_json` reads them back."""
        return {
            "sequences": [list(s) for s in self.sequences],
            "values": [[list(prefix), value] for prefix, value in sorted(self.values.items())],
            "reasoning": self.reasoning.to_json() if self.reasoning else None,
            "spellings": [[token, list(others)] for token, others in sorted(self.spellings.items())],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Openings:
        return cls(
            tuple(tuple(s) for s in data["sequences"]),
            {tuple(prefix): value for prefix, value in data["values"]},
            Reasoning.from_json(marks) if (marks := data.get("reasoning")) else None,
            {token: tuple(others) for token, others in data.get("spellings", ())},
        )
