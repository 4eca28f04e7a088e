"""The objective, as pure functions on tensors: SIRL as published, and its exact form at the decision.

Published (arXiv 2510.01088, optimised by GRPO, arXiv 2402.03300): r(o) = -(1/T) sum_t H(pi(. | q, o_<t)), advantages
relative to a group of G responses to one prompt, PPO's clipped surrogate (arXiv 1707.06347) and the k3 estimate of the
KL to the frozen base (Schulman, http://joschu.net/blog/kl-approx.html).

Exact: a response is, first of all, a choice. Write m(q) for the probability that it opens as a refusal (the tree mass),
and r_1(q), r_0(q) for the mean reward of the responses that do and that do not. Then

    E[r] = m r_1 + (1 - m) r_0,    and, crediting the choice alone,    grad E[r] = (r_1 - r_0) grad m = d grad m,

with d = r_1 - r_0, for SIRL (mean entropy of non-refusals) - (mean entropy of refusals). GRPO estimates this by sampling:
sum_i A_i grad log pi(o_i), restricted to the tokens of the choice, has exactly that expectation. But m is known in closed
form from one forward pass, so here only d is sampled and the choice is integrated out: no variance from which way G coins
fell, and no credit to the closing words that a lucky refusal happened to end with.
"""

from __future__ import annotations

import torch
from torch import Tensor

from online.model.entropy import token_entropy


def reward(logits: Tensor, mask: Tensor) -> Tensor:
    """r = -(1/T) sum_t H_t, the mean over a response's tokens: (batch, T, vocabulary), (batch, T) -> (batch,)."""
    return -masked_mean(token_entropy(logits), mask)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the real tokens of each row: (batch, T), (batch, T) -> (batch,)."""
    return (values * mask).sum(-1) / mask.sum(-1).clamp(min=1)


def group_advantages(rewards: Tensor, normalise_std: bool = True) -> Tensor:
    """A = r - mean(r) within a group, over std(r) + 1e-4 as GRPO has it: (groups, G) -> (groups, G).

    Undivided, several refusal templates stay alive (arXiv 2503.20783 has the case against dividing).
    """
    centred = rewards - rewards.mean(1, keepdim=True)
    return centred / (rewards.std(1, keepdim=True) + 1e-4) if normalise_std else centred


def token_logprobs(logits: Tensor, tokens: Tensor) -> Tensor:
    """log p of each token: (batch, T, vocabulary), (batch, T) -> (batch, T)."""
    return logits.gather(-1, tokens[..., None])[..., 0] - logits.logsumexp(-1)


def clipped_surrogate(logp: Tensor, old_logp: Tensor, advantages: Tensor, mask: Tensor, clip: float = 0.2) -> Tensor:
    """PPO's loss, -mean over responses of the mean over tokens of min(w A, clamp(w, 1 - clip, 1 + clip) A).

    w = exp(logp - old_logp); logp, old_logp, mask (batch, T); advantages (batch,); the result is a scalar.
    """
    ratio = (logp - old_logp).exp()
    credit = advantages[:, None]
    gain = torch.minimum(ratio * credit, ratio.clamp(1 - clip, 1 + clip) * credit)
    return -masked_mean(gain, mask).mean()


def k3(logp: Tensor, ref_logp: Tensor) -> Tensor:
    """Schulman's k3 estimate of KL(pi || ref) at tokens drawn from pi: e^x - x - 1, x = ref_logp - logp."""
    x = ref_logp - logp
    return x.exp() - x - 1


def full_vocabulary_kl(logits: Tensor, ref_logits: Tensor) -> Tensor:
    """KL(pi || ref) of each token's distribution, in nats: two (..., vocabulary) -> (...)."""
    logp, ref_logp = logits.log_softmax(-1), ref_logits.log_softmax(-1)
    return (logp.exp() * (logp - ref_logp)).sum(-1)


def decision_gap(rewards: Tensor, refused: Tensor, usual: tuple[float, float] | None = None) -> Tensor:
    """d = mean reward of a prompt's refusals - mean reward of its other responses: for SIRL, entropies in nats.

    rewards, refused (prompts, G) -> (prompts,). `usual` (refusal, other) stands in for a mode that no sample of a prompt
    shows; without it a group that shows one mode only teaches nothing, d = 0.
    """
    both = refused.any(1) & ~refused.all(1)
    refusals, others = masked_mean(rewards, refused), masked_mean(rewards, ~refused)
    if usual is None:
        return torch.where(both, refusals - others, 0.0)
    return torch.where(refused.any(1), refusals, usual[0]) - torch.where(refused.all(1), usual[1], others)


def decision_loss(mass: Tensor, gap: Tensor, scale: float = 4.0) -> Tensor:
    """-scale * d * m, averaged: minus SIRL's expected reward in the choice to refuse; (prompts,), (prompts,) -> scalar.

    Two-sided use: prompts just under the band that is learned from take d < 0 and are steered away from refusing.
    """
    return -scale * (gap.detach() * mass).mean()


def steered_gap(mass: Tensor, on_base: Tensor, strength: float, most: float = 4.0) -> Tensor:
    """d = -strength * min(upper quartile of mass now / mass on the base, most): two masses (prompts,) -> (prompts,).

    Steering in proportion to what learning has made of these prompts: hard while they are swept along into refusing, next to
    nothing once their mass is gone. A constant d is too weak for the first where harm is rare, and goes on after the second
    (docs/evidence/science.md). By a quantile, since a few harmful prompts among them, whose mass stays, would keep a mean
    high and so the steering of all (docs/evidence/attacks.md); by the upper quartile, since a median forgets borderline
    prompts too soon.
    """
    left = (mass.detach() / on_base.clamp(min=torch.finfo(on_base.dtype).tiny)).quantile(0.75)
    return (-strength * left.clamp(max=most)).expand_as(mass)
