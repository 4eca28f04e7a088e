"""Opening trees: the exact probability that a response opens as a refusal, by forward passes over the tree of openings."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from guard.openings import Openings, Tokens
from online.model.chunked_logits import Logits, per_token
from online.model.local_model import LocalModel
from online.model.token_rows import padded, pick, positions


def path_logprobs(policy: LocalModel, prompts: Sequence[Sequence[int]], paths: Sequence[Tokens]) -> Tensor:
    """log P(response opens with path | prompt), shape (prompts, paths), exact and differentiable.

    One forward pass a prompt, however the paths branch: their prefixes are laid out once, as a tree,
    behind the prompt, and a mask lets each see the prompt and its own ancestors (tree attention, arXiv
    2305.09781).
    """
    nodes, device = _nodes(paths), policy.model.device
    column = {(): 0} | {node: i + 1 for i, node in enumerate(nodes)}
    children: list[dict[int, int]] = [{} for _ in column]  # of each node, where its token is among them
    for path in paths:
        for k, token in enumerate(path):
            here = children[column[path[:k]]]
            here.setdefault(token, len(here))
    most = max(map(len, children))
    tokens = torch.tensor([[*here, *[0] * (most - len(here))] for here in children], dtype=torch.long, device=device)
    steps = [[column[p[:k]] * most + children[column[p[:k]]][p[k]] for k in range(len(p))] for p in paths]
    where, real = padded(steps, device, left=False)
    results: list[Tensor] = [torch.zeros(0, len(paths), device=device)]
    batches = tree_batches(policy, prompts, paths)
    for batch in batches:
        logits = _tree_logits(policy, [prompts[i] for i in batch], nodes)
        logprobs = per_token(_logprobs, logits, tokens.expand(len(batch), -1, -1))
        results.append((pick(logprobs.flatten(1), where) * real).sum(-1))
    order = [i for batch in batches for i in batch]
    back = torch.tensor(order, dtype=torch.long, device=policy.model.device).argsort()
    return torch.cat(results)[back]


def tree_batches(policy: LocalModel, prompts: Sequence[Sequence[int]], paths: Sequence[Tokens]) -> list[list[int]]:
    """Indices of prompts, in batches that the tree of these paths has room for behind them."""
    nodes = len(_nodes(paths))
    return policy.budget.now().batches([(len(prompt),) for prompt in prompts], nodes + policy.held_logits(1 + nodes))


def tree_mass(policy: LocalModel, prompts: Sequence[Sequence[int]], openings: Openings) -> Tensor:
    """Tree mass: exact probability that a response completes one of the openings, shape (prompts,)."""
    return path_logprobs(policy, prompts, openings.sequences).exp().sum(-1)


@torch.no_grad()
def serving_mass(
    policy: LocalModel, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], openings: Openings
) -> Tensor:
    """Serving mass of each response, as the worker ships it, shape (responses,).

    sum_c weight_c p(c) over the children of the deepest tree node that the response reached.
    """
    nodes = range(len(openings.prefixes))
    edges = [(node, token, weight) for node in nodes for token, weight in openings.children(node)]
    paths = [(*openings.prefixes[node], token) for node, token, _ in edges]
    logprobs = path_logprobs(policy, prompts, [*openings.prefixes, *paths])
    parent = torch.tensor([node for node, *_ in edges], device=logprobs.device)
    weight = torch.tensor([weight for *_, weight in edges], device=logprobs.device)
    share = (logprobs[:, len(nodes) :] - logprobs[:, parent]).exp() * weight
    masses = torch.zeros(len(prompts), len(nodes), device=share.device).index_add_(1, parent, share)
    masses[:, 0] /= _answering(policy, prompts, openings)
    decided = torch.tensor([_decided(openings, response) for response in responses], device=share.device)
    return masses[torch.arange(len(prompts), device=share.device), decided]


def first_mass(policy: LocalModel, prompts: Sequence[Sequence[int]], openings: Openings) -> Tensor:
    """Serving mass at the first token of a response, shape (prompts,): the tree's root alone, so one cheap pass."""
    tokens, weights = zip(*openings.children(0), strict=True)
    shares = path_logprobs(policy, prompts, [(token,) for token in tokens]).exp()
    return shares @ torch.tensor(weights, device=shares.device) / _answering(policy, prompts, openings)


def _answering(policy: LocalModel, prompts: Sequence[Sequence[int]], openings: Openings) -> Tensor:
    """P(the next token begins the answer | prompt), shape (prompts,): 1 but for a reasoning model's blanks and marks.
    Prompts end where an answer begins, so it is far from 0."""
    if openings.reasoning is None:
        return torch.ones(len(prompts), device=policy.model.device)
    aside = path_logprobs(policy, prompts, [(token,) for token in sorted(openings.reasoning.aside)]).exp().sum(1)
    return (1 - aside).clamp(min=1e-6)


def _nodes(paths: Sequence[Tokens]) -> list[Tokens]:
    """The inner nodes of the tree of these paths, its root left out."""
    return sorted({path[:k] for path in paths for k in range(1, len(path))}, key=lambda p: (len(p), p))


def _logprobs(logits: Tensor, tokens: Tensor) -> Tensor:
    """log P of each row's tokens: (rows, vocabulary), (rows, C) -> (rows, C)."""
    return logits.gather(1, tokens) - logits.logsumexp(1, keepdim=True)


def _tree_logits(policy: LocalModel, prompts: Sequence[Sequence[int]], nodes: Sequence[Tokens]) -> Logits:
    """Logits after the prompt and after each node of the tree: (batch, 1 + nodes, vocabulary)."""
    ids, mask = policy.left_padded(prompts)
    batch, length = ids.shape
    device = ids.device
    ancestry = torch.tensor([[b[: len(a)] == a for a in nodes] for b in nodes], dtype=torch.bool, device=device)
    visible = torch.ones(batch, length + len(nodes), length + len(nodes), dtype=torch.bool, device=device).tril_()
    visible[:, :, :length] &= mask.bool()[:, None, :]
    visible[:, length:, length:] = ancestry.view(len(nodes), len(nodes))
    visible.diagonal(dim1=1, dim2=2).fill_(True)
    hidden = torch.zeros(visible.shape, dtype=policy.model.dtype, device=device)
    hidden.masked_fill_(~visible, torch.finfo(policy.model.dtype).min)
    depths = torch.tensor([len(node) for node in nodes], dtype=torch.long, device=device)
    ends = torch.tensor([node[-1] for node in nodes], dtype=torch.long, device=device)
    places = torch.cat([positions(mask), mask.sum(1, keepdim=True) - 1 + depths], 1)
    ids = torch.cat([ids, ends.expand(batch, -1)], 1)
    return policy.last_logits(ids, hidden[:, None], places, keep=1 + len(nodes))


def _decided(openings: Openings, response: Sequence[int]) -> int:
    """The deepest inner node of the tree that the response reached."""
    node = deepest = 0
    for token in response:
        if (node := openings.step(node, token)) < 0:
            break
        deepest = node
    return deepest
