"""Opening trees: the exact probability that a response opens as a refusal, by forward passes over the tree of openings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from guard.openings import Openings, Tokens
from online.model.chunked_logits import Logits, per_token
from online.model.local_model import LocalModel
from online.model.token_rows import padded, pick


def path_logprobs(llm: LocalModel, prompts: Sequence[Sequence[int]], paths: Sequence[Tokens]) -> Tensor:
    """log P(response opens with path | prompt), shape (prompts, paths), exact and differentiable.

    One forward pass a prompt, however the paths branch: their prefixes are laid out once, as a tree,
    behind the prompt, and a mask lets each see the prompt and its own ancestors (tree attention, arXiv
    2305.09781).
    """
    nodes, device = _nodes(paths), llm.model.device
    children, steps = _steps(paths, nodes)
    tokens = torch.tensor(children, dtype=torch.long, device=device)
    where, real = padded(steps, device, left=False)
    results: list[Tensor] = [torch.zeros(0, len(paths), device=device)]
    batches = _batches(llm, prompts, len(nodes))
    for batch in batches:
        logits = _tree_logits(llm, [prompts[i] for i in batch], nodes)
        logprobs = per_token(_logprobs, logits, tokens.expand(len(batch), -1, -1))
        results.append((pick(logprobs.flatten(1), where) * real).sum(-1))
    order = [i for batch in batches for i in batch]
    back = torch.tensor(order, dtype=torch.long, device=device).argsort()
    return torch.cat(results)[back]


def tree_batches(llm: LocalModel, prompts: Sequence[Sequence[int]], paths: Sequence[Tokens]) -> list[list[int]]:
    """Indices of prompts, in batches that the tree of these paths has room for behind them."""
    return _batches(llm, prompts, len(_nodes(paths)))


def tree_mass(llm: LocalModel, prompts: Sequence[Sequence[int]], openings: Openings) -> Tensor:
    """Tree mass: exact probability that a response completes one of the openings, shape (prompts,)."""
    return path_logprobs(llm, prompts, openings.sequences).exp().sum(-1)


@dataclass(frozen=True, slots=True)
class NodeMasses:
    """What a model thinks at every inner node of a tree of openings, for each prompt, from one pass.

    logprobs: log P(a response opens with a node's prefix and then this token | prompt), shape (prompts, ways), of each way
    on from each node, in the order of `_ways`; answering: P(the next token begins the answer | prompt), shape (prompts,):
    1 but for a reasoning model's blanks and marks. Prompts end where an answer begins, so it is far from 0.
    """

    openings: Openings
    logprobs: Tensor
    answering: Tensor
    nodes: Tensor = field(init=False)
    """Serving mass at each inner node, shape (prompts, nodes): sum_c weight_c p(c) over the node's children."""

    def __post_init__(self) -> None:
        ways, paths = _ways(self.openings), _paths(self.openings)
        parent = torch.tensor([node for node, *_ in ways], device=self.logprobs.device)
        weight = torch.tensor([weight for *_, weight in ways], device=self.logprobs.device)
        at = {path: way for way, path in enumerate(paths)}
        reached = [at[prefix] for prefix in self.openings.prefixes[1:]]
        known = torch.cat([torch.zeros_like(self.logprobs[:, :1]), self.logprobs[:, reached]], 1)
        share = (self.logprobs - known[:, parent]).exp() * weight
        masses = torch.zeros_like(known).index_add_(1, parent, share)
        masses[:, 0] /= self.answering
        object.__setattr__(self, "nodes", masses)

    @property
    def tree(self) -> Tensor:
        """Tree mass, shape (prompts,)."""
        openings = set(self.openings.sequences)
        completes = [way for way, path in enumerate(_paths(self.openings)) if path in openings]
        return self.logprobs[:, completes].exp().sum(1)

    @property
    def first(self) -> Tensor:
        """Serving mass at the first token of a response, shape (prompts,)."""
        return self.nodes[:, 0]

    def serving(self, prompts: Sequence[int], responses: Sequence[Sequence[int]]) -> Tensor:
        """Serving mass of responses, each to the prompt of this index, shape (responses,): at the deepest node reached."""
        decided = [_decided(self.openings, response) for response in responses]
        return self.nodes[list(prompts), decided]

    def completing(self) -> dict[Tokens, float]:
        """P(an opening completes | prefix reached) of each inner node but the root, over all prompts."""
        paths = _paths(self.openings)
        reached = dict(zip(paths, self.logprobs.exp().sum(0).tolist(), strict=True))
        found = {}
        for prefix in self.openings.prefixes[1:]:
            completed = sum(reached[s] for s in self.openings.sequences if s[: len(prefix)] == prefix)
            found[prefix] = min(1.0, completed / reached[prefix])
        return found


@torch.no_grad()
def node_masses(llm: LocalModel, prompts: Sequence[Sequence[int]], openings: Openings) -> NodeMasses:
    """All masses of a tree, by one forward pass a prompt."""
    return NodeMasses(openings, *_read(llm, prompts, openings, _paths(openings)))


@torch.no_grad()
def serving_mass(
    llm: LocalModel, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], openings: Openings
) -> Tensor:
    """Serving mass of each response to its prompt, as the worker ships it, shape (responses,); prompts that are alike are
    asked once."""
    place = {prompt: at for at, prompt in enumerate(dict.fromkeys(map(tuple, prompts)))}
    return node_masses(llm, list(place), openings).serving([place[tuple(prompt)] for prompt in prompts], responses)


def first_mass(llm: LocalModel, prompts: Sequence[Sequence[int]], openings: Openings) -> Tensor:
    """Serving mass at the first token of a response, shape (prompts,): the tree's root alone, so one cheap pass."""
    tokens, weights = zip(*openings.children(0), strict=True)
    logprobs, answering = _read(llm, prompts, openings, [(token,) for token in tokens])
    return logprobs.exp() @ torch.tensor(weights, device=logprobs.device) / answering


def _read(
    llm: LocalModel, prompts: Sequence[Sequence[int]], openings: Openings, paths: Sequence[Tokens]
) -> tuple[Tensor, Tensor]:
    """Of each prompt (log P of each path, P(the next token begins the answer)), shapes (prompts, paths) and (prompts,)."""
    aside = sorted(openings.reasoning.aside) if openings.reasoning else []
    found = path_logprobs(llm, prompts, [*paths, *((token,) for token in aside)])
    answering = 1 - found[:, len(paths) :].exp().sum(1)
    return found[:, : len(paths)], answering.clamp(min=1e-6)


def _ways(openings: Openings) -> list[tuple[int, int, float]]:
    """(inner node, token, weight) of each way on in the tree."""
    return [(node, *way) for node in range(len(openings.prefixes)) for way in openings.children(node)]


def _paths(openings: Openings) -> list[Tokens]:
    """The tokens from the root to the end of each way on, that is, to each node of the tree but its root."""
    return [(*openings.prefixes[node], token) for node, token, _ in _ways(openings)]


def _nodes(paths: Sequence[Tokens]) -> list[Tokens]:
    """The inner nodes of the tree of these paths, its root left out."""
    return sorted({path[:k] for path in paths for k in range(1, len(path))}, key=lambda p: (len(p), p))


def _steps(paths: Sequence[Tokens], nodes: Sequence[Tokens]) -> tuple[list[list[int]], list[list[int]]]:
    """(children, steps): the tokens that follow the root and each node, rows filled up with zeros to one width; and where
    among these, counted row by row, each path has its tokens."""
    column = {(): 0} | {node: i + 1 for i, node in enumerate(nodes)}
    children: list[dict[int, int]] = [{} for _ in column]  # of each node, where its token is among them
    for path in paths:
        for k, token in enumerate(path):
            here = children[column[path[:k]]]
            here.setdefault(token, len(here))
    most = max(map(len, children))
    steps = [[column[p[:k]] * most + children[column[p[:k]]][p[k]] for k in range(len(p))] for p in paths]
    return [[*here, *[0] * (most - len(here))] for here in children], steps


def _batches(llm: LocalModel, prompts: Sequence[Sequence[int]], nodes: int) -> list[list[int]]:
    """Indices of prompts, in batches that a tree of so many inner nodes has room for behind them."""
    return llm.budget.now().batches([(len(prompt),) for prompt in prompts], nodes + llm.held_logits(1 + nodes))


def _logprobs(logits: Tensor, tokens: Tensor) -> Tensor:
    """log P of each row's tokens: (rows, vocabulary), (rows, C) -> (rows, C)."""
    return logits.gather(1, tokens) - logits.logsumexp(1, keepdim=True)


def _tree_logits(llm: LocalModel, prompts: Sequence[Sequence[int]], nodes: Sequence[Tokens]) -> Logits:
    """Logits after the prompt and after each node of the tree: (batch, 1 + nodes, vocabulary)."""
    laid = llm.laid_out(prompts)
    batch, length = laid.mask.shape
    device, before, all_columns = laid.ids.device, laid.shared, length + len(nodes)
    ancestry = torch.tensor([[b[: len(a)] == a for a in nodes] for b in nodes], dtype=torch.bool, device=device)
    visible = torch.ones(batch, all_columns, all_columns, dtype=torch.bool, device=device).tril_()
    visible[:, :, :length] &= laid.mask.bool()[:, None, :]
    visible[:, length:, length:] = ancestry.view(len(nodes), len(nodes))
    visible.diagonal(dim1=1, dim2=2).fill_(True)
    hidden = torch.zeros(batch, all_columns - before, all_columns, dtype=llm.model.dtype, device=device)
    hidden.masked_fill_(~visible[:, before:], torch.finfo(llm.model.dtype).min)
    depths = torch.tensor([len(node) for node in nodes], dtype=torch.long, device=device)
    ends = torch.tensor([node[-1] for node in nodes], dtype=torch.long, device=device)
    places = torch.cat([laid.places(), laid.mask.sum(1, keepdim=True) - 1 + depths], 1)
    ids = torch.cat([laid.ids, ends.expand(batch, -1)], 1)
    return llm.last_logits(ids, hidden[:, None], places, keep=1 + len(nodes), cache=laid.cache)


def _decided(openings: Openings, response: Sequence[int]) -> int:
    """The deepest inner node of the tree that the response reached."""
    node = deepest = 0
    for token in response:
        if (node := openings.step(node, token)) < 0:
            break
        deepest = node
    return deepest
