"""The trainer: it trains one adapter from the base step by step, and resumes to the bit.

All randomness of a step is drawn from (seed, step), so a checkpoint needs the weights, the optimiser and the step number.
"""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from evaluation.statistics import effective_number
from guard.openings import Openings, Tokens
from online.model.chunked_logits import per_token
from online.model.local_model import LocalModel
from online.model.opening_trees import tree_batches, tree_mass
from online.model.sample import Sample
from online.settings.groups import UpdateSettings
from online.state.files import write_atomic
from online.training import objective
from online.training.learning_rate import learning_rate
from online.training.presets import PRESETS
from online.training.rollouts import LocalRollouts, RolloutError, RolloutSource
from online.training.selector import Selection, select
from online.training.targets import lora

log = logging.getLogger("sirl")

ADAPTER = "candidate"
CHECKPOINT_STEPS = 5
"""Steps between two checkpoints."""
WARM_UP = 5
"""Steps over which the learning rate rises; after HALVED of all steps it is halved."""
HALVED = 0.6
GRADIENT_NORM = 1.0
NO_NUMBERS = 3
"""Gradients in a row that are not finite, after which learning stops."""
LARGE = 1_000_000_000
"""Parameters from which on layers are computed again, unless told otherwise: what they keep would outgrow the weights."""
ANCHORS = 12
"""Low-band prompts a step on which the KL is held down along a response. Without anchors at all defence and refusals are
what they are with them, and two to three of a hundred answers are garbled (docs/evidence/science.md)."""
DECISION_WEIGHTS = (1.0, 0.3, 0.3)
"""Further weight of the KL at the decision token and at the next two."""
PAPER_KL = 0.001
"""Weight of k3 in the published setting."""

Metrics = dict[str, float]


class Trainer:
    """One adapter, its optimiser and the running means of what refusals and other responses are like."""

    def __init__(
        self,
        llm: LocalModel,
        selection: Selection,
        openings: Openings,
        settings: UpdateSettings,
        rollouts: RolloutSource | None = None,
    ) -> None:
        self.llm, self.selection, self.openings, self.settings = llm, selection, openings, settings
        self.rollouts = rollouts or LocalRollouts()
        self.step = 0
        self.history: list[Metrics] = []
        self.preset = PRESETS[settings.preset]
        self._modes = {True: [0.0, 0], False: [0.0, 0]}
        self._recompute_if_large()
        self._parameters = self._tuned()
        self._rate = learning_rate(settings, llm.size)
        self._optimizer = torch.optim.AdamW(self._parameters, lr=self._rate, weight_decay=0.0)

    def _recompute_if_large(self) -> None:
        """Layers are computed again on the way back where asked for or, unless told otherwise, where the model is large."""
        wanted, size = self.settings.gradient_checkpointing, self.llm.size
        if wanted is None and size >= LARGE:
            log.info(
                "The model has %.1f billion parameters: layers are computed again on the way back, since "
                "update.gradient_checkpointing is not set.", size / 1e9,
            )  # fmt: skip
        if wanted or (wanted is None and size >= LARGE):
            self.llm.recompute_layers()

    def _tuned(self) -> list[torch.nn.Parameter]:
        """What is trained: the matrices of a fresh LoRA adapter, or a copy of all weights."""
        if self.settings.tune == "full":
            return self.llm.add_copy(ADAPTER)
        return self.llm.add_adapter(ADAPTER, lora(self.llm.model, self.settings), self.settings.seed)

    def advance(self) -> Metrics:
        """One optimiser step; returns what it saw."""
        settings = self.settings
        with self.llm.adapter(ADAPTER):
            self._optimizer.zero_grad(set_to_none=True)
            metrics: Metrics = {"step": self.step}
            for name, loss in self._losses(metrics):
                loss.backward()
                metrics[name] = metrics.get(name, 0.0) + loss.item()
            norm = torch.nn.utils.clip_grad_norm_(self._parameters, GRADIENT_NORM).item()
        rate = self._rate * min(1.0, (self.step + 1) / WARM_UP)
        for group in self._optimizer.param_groups:
            group["lr"] = rate * (0.5 if self.step >= HALVED * settings.steps else 1.0)
        if math.isfinite(norm):  # one step in a gradient that is no number, and all weights are none
            self._optimizer.step()
        else:
            log.warning("Step %d is left out: its gradient is not finite.", self.step + 1)
        self.step += 1
        self.history.append(metrics | {"gradient_norm": norm})
        return self.history[-1]

    def sign_of_collapse(self) -> str | None:
        """What the last step shows of a model that falls apart: a KL past all bounds, or certainty about everything."""
        settings, first, last = self.settings, self.history[0], self.history[-1]
        newest = [one["gradient_norm"] for one in self.history[-NO_NUMBERS:]]
        if len(newest) == NO_NUMBERS and not any(map(math.isfinite, newest)):
            return f"{NO_NUMBERS} gradients in a row were not finite: set update.dtype = 'float32', or another update.device"
        if "entropy" not in first or "entropy" not in last:  # nothing was contested, so nothing was sampled
            return None
        if "k3" in last:
            kl = last["k3"] * last["length"]
        else:
            kl = last.get("kl_responses", 0.0) / (settings.kl_weight_responses or 1.0)
        if not kl <= settings.stop_kl:  # a NaN stops too
            return f"the KL to the base is {kl:.1f} nats a response, over update.stop_kl = {settings.stop_kl:g}"
        share = last["entropy"] / max(first["entropy"], 1e-9)
        if not share >= settings.stop_entropy:
            return (
                f"mean entropy fell from {first['entropy']:.3f} to {last['entropy']:.3f} nats a token, which is under "
                f"update.stop_entropy = {settings.stop_entropy:g} of it"
            )
        return None

    def save(self, path: Path, key: str) -> None:
        """Checkpoint, atomically; `key` says of which data and settings."""
        state = {
            "key": key,
            "step": self.step,
            "history": self.history,
            "modes": self._modes,
            "parameters": [p.detach() for p in self._parameters],
            "optimizer": self._optimizer.state_dict(),
        }
        stream = io.BytesIO()
        torch.save(state, stream)
        write_atomic(path, stream.getvalue())

    def restore(self, path: Path, key: str) -> bool:
        """Go on from a checkpoint; False, and nothing changed, if there is none of these data and settings."""
        if not path.exists():
            return False
        state = torch.load(path, map_location="cpu", weights_only=True)  # wherever it was written
        if state["key"] != key:
            return False
        self.step, self.history, self._modes = state["step"], state["history"], state["modes"]
        with torch.no_grad():
            for parameter, stored in zip(self._parameters, state["parameters"], strict=True):
                parameter.copy_(stored)
        self._optimizer.load_state_dict(state["optimizer"])
        return True

    def _losses(self, metrics: Metrics) -> Iterator[tuple[str, Tensor]]:
        """The terms of one step, each yielded alone, so that its graph is freed at once."""
        settings, preset, prompts = self.settings, self.preset, self.selection.prompts
        if preset.live:
            self.selection = select(self.llm, prompts, self.openings, self.selection.bands, ADAPTER)
        beside = preset.anchored or preset.two_sided
        screen = self.selection.screen(
            self.step,
            contested=settings.contested_per_step,
            others=settings.screened_per_step - settings.contested_per_step if beside else 0,
            seed=settings.seed,
        )
        contested = [prompts[i] for i in screen.contested]
        anchors = [prompts[i] for i in screen.anchors][:ANCHORS] if self._anchor_tokens else []
        asked = [*contested, *anchors]
        counts = [settings.group_size] * len(contested) + [1] * len(anchors)
        limits = [self._rollout_tokens] * len(contested) + [self._anchor_tokens] * len(anchors)
        drawn = self._sample(asked, counts, limits) if asked else []
        samples, along = drawn[: sum(counts) - len(anchors)], drawn[sum(counts) - len(anchors) :]
        if contested:
            refused = self._look(samples, metrics)
            if self.rollouts.elsewhere:
                self._compare(contested, samples, metrics)
            rewards = preset.reward(samples, self.openings, self._luck()).to(refused.device)
            metrics["reward"] = rewards.mean().item()
            shape = (len(contested), -1)
            form = self._exact if preset.form == "exact" else self._sampled
            yield from form(contested, samples, rewards.view(shape), refused.view(shape), metrics)
        if preset.two_sided and screen.below:
            yield from self._below(screen.below, metrics)
        if along:
            yield from self._anchored(asked, along, metrics)

    @property
    def _rollout_tokens(self) -> int:
        return min(self.settings.rollout_tokens, self.settings.max_tokens)

    @property
    def _anchor_tokens(self) -> int:
        """How far along a response anchors hold the KL down; 0: nowhere."""
        settings = self.settings
        if not self.preset.anchored:
            return 0
        if settings.kl_weight_responses:
            return self._rollout_tokens
        return len(DECISION_WEIGHTS) if settings.kl_weight_decision else 0

    def _exact(
        self, contested: Sequence[Tokens], samples: Sequence[Sample], rewards: Tensor, refused: Tensor, metrics: Metrics
    ) -> Iterator[tuple[str, Tensor]]:
        """The decision term: d from each prompt's sampled group, its mass in closed form; rewards, refused (prompts, G)."""
        for reward, is_refusal in zip(rewards.flatten().tolist(), refused.flatten().tolist(), strict=True):
            self._modes[is_refusal][0] += reward
            self._modes[is_refusal][1] += 1
        overall = sum(total for total, _ in self._modes.values()) / sum(n for _, n in self._modes.values())
        usual = [total / n if n else overall for total, n in (self._modes[True], self._modes[False])]
        gap = objective.decision_gap(rewards, refused, (usual[0], usual[1]) if self.preset.lone == "mean" else None)
        metrics |= {"gap": gap.mean().item(), "reward_refusals": usual[0], "reward_others": usual[1]}
        metrics["mass_contested"] = 0.0
        for batch in tree_batches(self.llm, contested, self.openings.sequences):
            mass, share = self._mass([contested[i] for i in batch]), len(batch) / len(contested)
            metrics["mass_contested"] += share * mass.mean().item()
            yield "decision", share * objective.decision_loss(mass, gap[batch])

    def _below(self, below: Sequence[int], metrics: Metrics) -> Iterator[tuple[str, Tensor]]:
        """The two-sided term on prompts of these indices. How hard they are steered goes by the masses of all, which take a
        pass of their own where their graphs do not fit at once."""
        prompts = [self.selection.prompts[i] for i in below]
        batches = tree_batches(self.llm, prompts, self.openings.sequences)
        with torch.set_grad_enabled(len(batches) == 1):
            now = self._mass(prompts)
        gap = objective.steered_gap(now, now.new_tensor([self.selection.masses[i] for i in below]), self.settings.below)
        metrics["mass_below"] = now.mean().item()
        if len(batches) == 1:
            yield "below", objective.decision_loss(now, gap)
            return
        for batch in batches:
            mass = self._mass([prompts[i] for i in batch])
            yield "below", len(batch) / len(below) * objective.decision_loss(mass, gap[batch])

    def _sampled(
        self, contested: Sequence[Tokens], samples: Sequence[Sample], rewards: Tensor, refused: Tensor, metrics: Metrics
    ) -> Iterator[tuple[str, Tensor]]:
        """GRPO's clipped surrogate with k3 to the base; on-policy, so that the ratio is 1, or corrects for another engine's
        rounding. Shapes as in `_exact`."""
        both = refused.any(1) & ~refused.all(1) | (self.preset.lone == "mean")
        credit = objective.group_advantages(rewards, self.preset.normalise) * both[:, None]
        advantages = credit.flatten()
        for batch in self._batches(contested, samples):
            some = [samples[i] for i in batch]
            asked, answers = [contested[s.prompt] for s in some], [s.tokens for s in some]
            with torch.no_grad(), self.llm.adapter(None):
                ref, tokens, mask = self.llm.response_logits(asked, answers)
                ref_logp = per_token(objective.token_logprobs, ref, tokens)
            logp = per_token(objective.token_logprobs, self.llm.response_logits(asked, answers)[0], tokens)
            drawn = self._stated(some, logp) if self.rollouts.elsewhere else logp.detach()
            gain = objective.clipped_surrogate(logp, drawn, advantages[batch], mask)
            kl = objective.masked_mean(objective.k3(logp, ref_logp), mask).mean()
            share = len(asked) / len(samples)
            metrics["k3"] = metrics.get("k3", 0.0) + share * kl.item()
            yield "surrogate", share * (gain + PAPER_KL * kl)

    def _look(self, samples: Sequence[Sample], metrics: Metrics) -> Tensor:
        """Note what the samples are like; returns which of them opened as refusals, shape (samples,)."""
        refused = [self.openings.matched(s.tokens) for s in samples]
        metrics["refused"] = sum(refused) / len(samples)
        metrics["openings"] = effective_number(s.tokens[:4] for s, no in zip(samples, refused, strict=True) if no)
        metrics["entropy"] = sum(s.entropy for s in samples) / len(samples)
        for name, kind in (("entropy_refusals", True), ("entropy_others", False)):
            if mine := [s.entropy for s, no in zip(samples, refused, strict=True) if no is kind]:
                metrics[name] = sum(mine) / len(mine)
        metrics["length"] = sum(len(s.tokens) for s in samples) / len(samples)
        return torch.tensor(refused, device=self.llm.model.device)

    def _mass(self, prompts: Sequence[Tokens]) -> Tensor:
        return tree_mass(self.llm, prompts, self.openings)

    def _anchored(
        self, prompts: Sequence[Tokens], samples: Sequence[Sample], metrics: Metrics
    ) -> Iterator[tuple[str, Tensor]]:
        """KL to the base along a sampled response to each anchor, over the whole vocabulary, averaged over anchors; of the
        decision once more by its own weights."""
        settings = self.settings
        parts = {"kl_responses": settings.kl_weight_responses, "kl_decision": settings.kl_weight_decision}
        for batch in self._batches(prompts, samples):
            some = [samples[i] for i in batch]
            asked, answers = [prompts[s.prompt] for s in some], [s.tokens for s in some]
            with torch.no_grad(), self.llm.adapter(None):
                ref, _, mask = self.llm.response_logits(asked, answers)
            kl = mask * per_token(objective.full_vocabulary_kl, self.llm.response_logits(asked, answers)[0], ref)
            early = kl.new_tensor(DECISION_WEIGHTS)[: kl.shape[1]]
            sums = {"kl_responses": kl.sum(), "kl_decision": (kl[:, : len(early)] * early).sum()}
            terms = {name: scale / len(samples) * sums[name] for name, scale in parts.items()}
            for name, term in terms.items():
                metrics[name] = metrics.get(name, 0.0) + term.item()
            yield "anchors", torch.stack([*terms.values()]).sum()

    def _luck(self) -> torch.Generator:
        """The step's own randomness, of (seed, step)."""
        return torch.Generator().manual_seed(self.settings.seed * 1_000_003 + self.step)

    def _sample(self, prompts: Sequence[Tokens], n: Sequence[int], tokens: Sequence[int]) -> list[Sample]:
        """From where rollouts come from; once that fails, from the model itself to the end. n, tokens: of each prompt."""
        seed = self._luck().initial_seed()
        try:
            return self.rollouts.sample(self.llm, ADAPTER, prompts, n, max_tokens=tokens, seed=seed)
        except RolloutError as error:
            log.warning("%s: the learner draws its own from step %d on.", error, self.step + 1)
            self.rollouts = LocalRollouts()
            return self.rollouts.sample(self.llm, ADAPTER, prompts, n, max_tokens=tokens, seed=seed)

    @torch.no_grad()
    def _compare(self, prompts: Sequence[Tokens], samples: Sequence[Sample], metrics: Metrics) -> None:
        """Note how far the engine's log-probabilities are from the trainer's, in nats a token, on the first row's batch."""
        some = [samples[i] for i in next(batch for batch in self._batches(prompts, samples) if 0 in batch)]
        asked, answers = [prompts[s.prompt] for s in some], [s.tokens for s in some]
        logits, tokens, mask = self.llm.response_logits(asked, answers)
        logp = per_token(objective.token_logprobs, logits, tokens)
        apart = (logp - self._stated(some, logp)).abs()[mask]
        metrics |= {"mismatch": apart.mean().item(), "mismatch_max": apart.max().item()}

    def _stated(self, samples: Sequence[Sample], like: Tensor) -> Tensor:
        """Log-probabilities that came with samples, padded by zeros to the shape of `like` (samples, T)."""
        stated = torch.zeros_like(like)
        for row, sample in zip(stated, samples, strict=True):
            row[: len(sample.logprobs)] = torch.tensor(sample.logprobs)
        return stated

    def _batches(self, prompts: Sequence[Tokens], samples: Sequence[Sample]) -> list[list[int]]:
        """Indices of samples whose graphs fit the budget together."""
        return self.llm.batches([prompts[s.prompt] for s in samples], [s.tokens for s in samples])
