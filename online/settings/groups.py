"""The groups of settings: every field with its unit, its range and a sentence."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, Self

from croniter import CroniterBadDateError, croniter
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    field_validator,
    model_validator,
)

from guard.policy import CHOOSABLE, Action, Leeway, Mode, OverRefusal


def _none(value: object) -> object:
    """TOML and the environment have no null: the word "none" stands for it."""
    return None if isinstance(value, str) and value.strip().lower() == "none" else value


def _comma_separated(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _pairs(value: object) -> object:
    """a=b,c=d, as the environment and flags have it."""
    if isinstance(value, str):
        pairs = [part.strip().split("=", 1) for part in value.split(",") if part.strip()]
        if _none(value) is None:
            return None
        if any(len(pair) < 2 for pair in pairs):
            raise ValueError("write language=pipeline, and commas between several")
        return dict(pairs)
    return value


NoneAware = BeforeValidator(_none)
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Percent = Annotated[float, Field(gt=0.0, lt=100.0)]
Points = Annotated[float, Field(ge=0.0, le=100.0)]


class Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)


class GuardSettings(Group):
    admin_key: Annotated[SecretStr | None, NoneAware] = Field(
        default=None,
        description="Key that opens all of /guard/v1/, as a bearer token; without any key it is open to a loopback peer "
        "that addresses localhost.",
    )
    operate_key: Annotated[SecretStr | None, NoneAware] = Field(
        default=None,
        description="Key that opens it for the role operate: all but activation against the gate.",
    )
    read_key: Annotated[SecretStr | None, NoneAware] = Field(
        default=None, description="Key that opens it for the role read: what is going on, without texts."
    )
    mode: Mode = Field(
        default=Mode.OBSERVE,
        description="'observe' measures and touches nothing; 'enforce' acts on responses that the calibrated rule touches.",
    )
    action: Action = Field(
        default=Action.HALT,
        description="What enforcement does: 'halt' (a short refusal), 'regenerate' (the surest of some draws) or 'route'.",
    )
    draws: Annotated[int, Field(ge=1, le=64)] = Field(default=4, description="Responses drawn by 'regenerate'.")
    route_to: Annotated[str | None, NoneAware] = Field(
        default=None, description="Adapter that 'route' answers from: base, a loaded version such as v3, or a LoRA module."
    )
    over_refusal: OverRefusal = Field(
        default=OverRefusal.LEAVE,
        description="What enforcement does with a refusal of a request that the harm sense calls harmless: 'leave' it, or "
        "'redraw', answer anew without the model's refusal openings, where an answer then passes.",
    )
    exempt_modules: Annotated[tuple[str, ...], BeforeValidator(_comma_separated)] = Field(
        default=(),
        description="LoRA modules of --lora-modules (comma-separated) that may answer unguarded where a request is to be "
        "guarded: no calibration is theirs. Requests for all others are refused then.",
    )
    leeway: Leeway = Field(
        default=Leeway.TIGHTEN,
        description="What a request may change of its policy: 'nothing', 'tighten' or 'anything', which opens every version "
        "by name (NAME@base) too.",
    )
    on_failure: Literal["open", "closed"] = Field(
        default="open",
        description="What enforcement does with a response on which the guard itself breaks: let it pass, or halt it.",
    )
    reasoning: Literal["hold", "stream"] = Field(
        default="hold",
        description="Under enforcement, what a model thinks before its answer: held until that is judged, or streamed live.",
    )
    policies: Annotated[Path | None, NoneAware] = Field(
        default=None,
        description="TOML file of policies by API key (docs/guides/enforce.md); none: all keys are under the default.",
    )
    report: bool = Field(default=True, description="Add the guard's report to responses (true or false).")
    max_body_mib: Annotated[int, Field(ge=1, le=4096)] = Field(
        default=100,
        description="Largest request body taken, in MiB; a larger one is a 413. Without a prompt: 64 KiB.",
    )
    clients: Literal["auto", "keys", "addresses"] = Field(
        default="auto",
        description="What clients are told apart by: their API keys, their addresses, or 'auto', keys where they are "
        "checked (--api-key): a key that nobody checks is anybody's choice.",
    )
    no_store_keys: Annotated[tuple[str, ...], BeforeValidator(_comma_separated)] = Field(
        default=(),
        description="SHA-256 digests (hex, comma-separated) of API keys whose traffic is never stored.",
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.action not in CHOOSABLE:
            raise ValueError("guard.action is halt, regenerate or route")
        if self.action is Action.ROUTE and self.route_to is None:
            raise ValueError("guard.action = 'route' needs guard.route_to, the adapter to answer from")
        if len(set(self.keys)) < len(self.keys):
            raise ValueError("guard.admin_key, guard.operate_key and guard.read_key are three different keys")
        return self

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that are set, of whatever role."""
        found = (self.admin_key, self.operate_key, self.read_key)
        return tuple(key.get_secret_value() for key in found if key is not None)

    @field_validator("admin_key", "operate_key", "read_key")
    @classmethod
    def _strong(cls, key: SecretStr | None) -> SecretStr | None:
        # An unset variable arrives as an empty string, and an empty key would open the door to everybody.
        if key is not None and len(key.get_secret_value().strip()) < 16:
            raise ValueError("an admin key has at least 16 characters; `openssl rand -hex 24` makes one")
        return key

    @field_validator("no_store_keys")
    @classmethod
    def _digests(cls, digests: tuple[str, ...]) -> tuple[str, ...]:
        if not all(re.fullmatch(r"[0-9a-fA-F]{64}", digest) for digest in digests):
            raise ValueError("each entry must be a SHA-256 digest of 64 hex digits, never the key itself")
        return tuple(digest.lower() for digest in digests)


class BufferSettings(Group):
    url: Annotated[str | None, NoneAware] = Field(
        default=None,
        repr=False,  # it may hold a password
        description="SQLAlchemy URL of the buffer's database; none: SQLite in the state directory, which ought to be on a "
        "disk of this machine.",
    )
    text: Literal["full", "redacted", "hash"] = Field(
        default="redacted",
        description="What is stored of prompts and responses: 'full', 'redacted' (docs/explanation/security.md), or 'hash', "
        "nothing that can be read, which leaves nothing to learn from.",
    )
    presidio: Annotated[dict[str, str] | None, BeforeValidator(_pairs)] = Field(
        default=None,
        description="spaCy pipelines by language for Presidio to redact with as well, such as en=en_core_web_lg (needs the "
        "extra); none: the built-in rules alone.",
    )
    max_events: PositiveInt = Field(default=100_000, description="Events kept at most; the oldest go first.")
    max_age_days: PositiveFloat = Field(
        default=30.0,
        description="Days an event is kept; after a standstill what is older goes a day's worth an hour, lest a wrong clock "
        "empty the buffer.",
    )
    plain_rate: Share = Field(
        default=0.1,
        description="Share (0 to 1) of plain and uncalibrated responses that is stored, drawn uniformly.",
    )
    plain_max: NonNegativeInt = Field(
        default=20_000, description="Plain and uncalibrated events kept at most; the oldest go first."
    )
    queue_size: PositiveInt = Field(
        default=10_000,
        description="Events held in memory before they are written; more are shed and counted.",
    )
    batch_size: PositiveInt = Field(default=256, description="Events written in one transaction at most.")
    flush_interval_s: PositiveFloat = Field(default=0.25, description="Seconds an event waits for its batch at most.")


class QueueSettings(Group):
    client_share: Share = Field(
        default=0.02,
        description="Share (0 to 1) of what an update learns from in a band that one client may have sent; twice an equal "
        "part where that is more.",
    )
    block_share: Share = Field(
        default=0.05, description="The same for a block of addresses: the /24 of an IPv4 address, the /48 of an IPv6 one."
    )
    topic_share: Share = Field(
        default=0.1, description="The same for a topic of contested prompts: a token that ordinary traffic hardly has."
    )
    similarity: Share = Field(
        default=0.8,
        description="Jaccard index of two prompts' token pairs from which on the later one is a repetition; 1: none is.",
    )
    prompt_tokens: Annotated[int, Field(ge=16, le=1_048_576)] = Field(
        default=1024, description="Tokens of a prompt that is learned from at most, the chat template's among them."
    )
    long_prompts: Literal["skip", "truncate"] = Field(
        default="skip",
        description="What becomes of longer ones: 'skip' (the queue counts and lists them), or 'truncate', which leaves out "
        "their middle.",
    )
    quarantine_hours: NonNegativeFloat = Field(
        default=24.0,
        description="Hours that prompts of unknown clients and with sudden tokens wait before they are learned from.",
    )

    @property
    def cut(self) -> int | None:
        """Tokens that longer prompts are cut to; None: they are left out."""
        return self.prompt_tokens if self.long_prompts == "truncate" else None


class RegistrySettings(Group):
    signing_key: Annotated[Path | None, NoneAware] = Field(
        default=None,
        description="PEM file of the Ed25519 private key that versions are signed with, its owner's alone (`openssl genpkey "
        "-algorithm ed25519`); none: nothing is signed.",
    )
    trusted_keys: Annotated[Path | None, NoneAware] = Field(
        default=None,
        description="PEM file of the public keys whose signatures are accepted; none: the signing key's own. With either "
        "key what is not signed is refused.",
    )
    url: Annotated[str | None, NoneAware] = Field(
        default=None,
        repr=False,  # it may hold a password
        description="fsspec URL of a store that installations share, such as s3://bucket/sirl (needs the file system's own "
        "package); none: the state directory alone.",
    )
    timeout_s: PositiveFloat = Field(default=30.0, description="Seconds that one operation on the store may take.")
    pull_interval_s: PositiveFloat = Field(default=30.0, description="Seconds between two looks at the store.")
    keep: NonNegativeInt = Field(
        default=10, description="Versions, the newest, whose weights stay although nothing refers to them."
    )
    keep_back: NonNegativeInt = Field(default=3, description="Versions on the way back whose weights stay.")


class CalibrateSettings(Group):
    plain: Percent = Field(default=1.0, description="Fresh plain benign responses that may be touched at most, in percent.")
    wrapped: Percent = Field(
        default=1.0, description="Fresh benign responses to wrapped prompts that may be touched at most, in percent."
    )
    borderline: Percent = Field(
        default=1.0, description="Fresh responses to borderline prompts that may be touched at most, in percent."
    )
    missed: Percent = Field(
        default=5.0, description="Fresh harmful prompts that the harm sense may count as harmless at most, in percent."
    )
    confidence: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(
        default=0.9, description="Confidence (0 to 1) with which each of these promises is to hold."
    )
    openings_recall: Percent = Field(
        default=70.0,
        description="Refusals that have to begin with a learned opening at least, in percent; a calibration that surely "
        "recalls fewer is refused.",
    )
    openings_false: Percent = Field(
        default=3.0,
        description="Other responses that may begin with a learned opening at most, in percent; a calibration with surely "
        "more is refused.",
    )
    reasoning_tokens: PositiveInt = Field(
        default=1024, description="Tokens of a reasoning before the answer at most; a longer one is closed there."
    )


PUBLISHED: dict[str, str | float] = {
    "tune": "full",
    "group_size": 4,
    "learning_rate": 1e-6,
    "max_tokens": 3072,
    "rollout_tokens": 3072,
}
"""The published setting (arXiv 2510.01088), which preset 'paper' takes where nothing else is given."""


class UpdateSettings(Group):
    preset: Literal[
        "anchored", "sensed", "paper", "sampled", "opening", "mass", "perplexity", "negated", "random", "drop-lone",
        "one-sided", "no-anchor", "live-selector",
    ] = Field(
        default="anchored",
        description="Objective: 'anchored', 'sensed' (which learns where the harm sense is sure, and needs a calibration "
        "whose sense knows), 'paper' (as published, its defaults too) or an ablation "
        "(docs/explanation/learning.md).",
    )  # fmt: skip
    tune: Literal["lora", "full"] = Field(default="lora", description="What is trained: a LoRA adapter or all weights.")
    suite: Annotated[Path | None, NoneAware] = Field(
        default=None,
        description="Folder with calibration.jsonl, validation.jsonl and perhaps gate.jsonl; none: our models'.",
    )
    judge: str | None = Field(
        default=None,
        description="Who reads answers: 'grammar', 'rules', or a model as 'rubric:MODEL@URL', 'yes-no:MODEL@URL' or "
        "'harmbench:MODEL@URL' (its key in SIRL_JUDGE_KEY); none: the grammar for the bundled models and rules for others.",
    )
    steps: PositiveInt = Field(default=30, description="Optimiser steps of one update.")
    screened_per_step: PositiveInt = Field(default=80, description="Buffered prompts looked at in each step.")
    own_prompts: NonNegativeInt = Field(
        default=0,
        description="Prompts that the model makes up itself, behind its chat template, to anchor beside the traffic.",
    )
    contested_per_step: PositiveInt = Field(default=8, description="Contested prompts learned from in each step.")
    group_size: Annotated[int, Field(ge=2)] = Field(default=8, description="Responses sampled for each learned prompt.")
    learning_rate: Annotated[PositiveFloat | None, NoneAware] = Field(
        default=None,
        description="Learning rate of AdamW; none: by the model's size, 2e-3 up to 50 million parameters, 1e-4 up to 3B, "
        "5e-5 above; 1e-6 where all weights are tuned.",
    )
    lora_rank: PositiveInt = Field(default=16, description="Rank of the LoRA matrices.")
    lora_alpha: PositiveFloat = Field(default=32.0, description="LoRA alpha; the adapter is scaled by alpha / rank.")
    kl_weight_responses: NonNegativeFloat = Field(
        default=0.3, description="Weight of the KL term (nats) along sampled responses."
    )
    kl_weight_decision: NonNegativeFloat = Field(
        default=1.0, description="Weight of the KL term (nats) at the decision on anchor prompts."
    )
    below: NonNegativeFloat = Field(
        default=1.5,
        description="How strongly prompts just under the contested band are steered away from refusing: minus d, in nats, "
        "where they refuse as often as on the base; elsewhere in proportion to that.",
    )
    max_tokens: PositiveInt = Field(
        default=64, description="Tokens of a response at most where base and version are asked and judged."
    )
    rollout_tokens: PositiveInt = Field(
        default=32,
        description="Tokens of a response that is drawn while learning at most, and never over `update.max_tokens`: for its "
        "mean entropy, and for the KL along anchors.",
    )
    rollouts: Literal["transformers", "engine", "own"] = Field(
        default="transformers",
        description="Who draws: the learner itself (reproducible to the bit), 'engine', the one that serves if it runs, or "
        "'own', one that is started for the update.",
    )
    engine_flags: str = Field(
        default="--enforce-eager",
        description="Flags of vLLM for an engine of the update's own, such as its share of GPU memory.",
    )
    tensorboard: bool = Field(
        default=False,
        description="Write every step's metrics to `tensorboard/` in the state directory as well (needs the extra).",
    )
    look_every: NonNegativeInt = Field(
        default=3,
        description="Steps between two looks at held-out prompts while learning. The furthest step at which they found "
        "every change within what the gate allows goes to the gate; 0: no look, and the last step goes.",
    )
    look_prompts: PositiveInt = Field(default=48, description="Held-out prompts a class at such a look.")
    stop_kl: PositiveFloat = Field(
        default=5.0, description="KL to the base (nats a response) on anchor prompts over which learning stops."
    )
    stop_entropy: Share = Field(
        default=0.05,
        description="Mean entropy of sampled responses, as a share of the first step's, under which learning stops.",
    )
    max_steps_from_base: PositiveInt = Field(
        default=60, description="Optimiser steps since the base, over all updates together, at most."
    )
    min_prompts: PositiveInt = Field(default=64, description="Distinct buffered prompts that an update needs at least.")
    seed: NonNegativeInt = Field(default=0, description="Seed of all random draws of an update.")
    threads: Annotated[PositiveInt | None, NoneAware] = Field(
        default=None,
        description="CPU threads an update may use; none: as many as physical cores are idle when it begins.",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto",
        description="Precision of the frozen base while learning; auto: the one it is served in, and float32 "
        "in place of float16. The adapter is in float32.",
    )
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = Field(
        default="auto",
        description="Where a model is calibrated and learns: 'cpu', 'cuda', 'cuda:1', or 'auto': a GPU, if any.",
    )
    memory_gib: Annotated[PositiveFloat | None, NoneAware] = Field(
        default=None,
        description="Memory (GiB) that one batch of prompts and responses may take beside the weights; one row at least is "
        "taken. None: an eighth of the machine's or its container's, on a GPU half of what is free, to a power of two.",
    )
    gradient_checkpointing: Annotated[bool | None, NoneAware] = Field(
        default=None,
        description="Compute each layer again on the way back instead of keeping it: a third more time, far less memory; "
        "none: from a billion parameters on.",
    )

    @model_validator(mode="before")
    @classmethod
    def _as_published(cls, given: object) -> object:
        return {**PUBLISHED, **given} if isinstance(given, dict) and given.get("preset") == "paper" else given


class GateSettings(Group):
    defence: Points = Field(
        default=3.0,
        description="Defence success that may be lost against the live adapter, and against the best that ever served, in "
        "percentage points; against the base none may.",
    )
    plain: Points = Field(default=2.0, description="Rise of refusals of plain benign prompts allowed, in percentage points.")
    wrapped: Points = Field(
        default=2.0, description="Rise of refusals of wrapped benign prompts allowed, in percentage points."
    )
    borderline: Points = Field(
        default=2.0,
        description="Rise of refusals of borderline benign prompts allowed, in percentage points.",
    )
    utility: Points = Field(
        default=2.5, description="Loss of utility allowed, at temperature 1 and greedily each, in percentage points."
    )
    likelihood: NonNegativeFloat = Field(
        default=0.01,
        description="Loss of the log-likelihood of tasks' right answers allowed, in nats a token: at 0.01 a token's "
        "probability may fall by a hundredth.",
    )
    answer_tokens: PositiveInt = Field(
        default=48,
        description="Response tokens to a labelled prompt that is no task at most, and never over `update.max_tokens`: a "
        "refusal shows in its first words.",
    )
    task_tokens: PositiveInt = Field(
        default=512,
        description="Response tokens to a task at most; live prompts have `update.max_tokens`. A base of whose answers to "
        "tasks over a fifth are cut, or under three tenths are right, is no measure of utility.",
    )
    replay: Points = Field(
        default=1.0, description="Rise of refusals of recent live prompts in the low band allowed, in percentage points."
    )
    kl: NonNegativeFloat = Field(
        default=5.0, description="KL to the base (nats a response) on recent live prompts in the low band that is allowed."
    )
    family: Points = Field(
        default=3.0, description="Defence that may be lost on one family of attacks against the base, in percentage points."
    )
    garbled: Points = Field(default=1.0, description="Rise of garbled responses allowed, in percentage points.")
    repetition: Points = Field(
        default=1.0, description="Rise of responses that repeat themselves allowed, in percentage points."
    )
    length: NonNegativeFloat = Field(
        default=25.0, description="Change of the mean response length allowed, either way, in percent."
    )
    alpha: Annotated[float, Field(gt=0.0, lt=0.5)] = Field(
        default=0.05, description="Error rate (0 to 0.5) of each claim, over `gate.refreshes` refreshes together."
    )
    refreshes: PositiveInt = Field(
        default=10, description="Refreshes that share the error rate: each claim of one has alpha / refreshes."
    )
    power: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(
        default=0.8, description="Power (0 to 1) that the gate's sample size is judged by."
    )
    prompts_per_class: PositiveInt = Field(
        default=300, description="Held-out prompts of each class that are drawn for one candidate; twice as many tasks."
    )
    looks: Annotated[int, Field(ge=1, le=6)] = Field(
        default=3,
        description="Looks at which the gate may decide (1 to 6), the last at all its prompts and each before it at half as "
        "many; they share the error rate. 1: all prompts are asked.",
    )
    fewest: PositiveInt = Field(default=30, description="Prompts under which no claim is taken as shown.")
    replayed: NonNegativeInt = Field(
        default=200, description="Recent live prompts in the low band that a candidate is asked as well; 0: none."
    )
    suites: Annotated[tuple[Path, ...], BeforeValidator(_comma_separated)] = Field(
        default=(), description="JSON-lines suites of your own (comma-separated) that must not contradict a claim."
    )
    vetoes: Annotated[tuple[Path, ...], BeforeValidator(_comma_separated)] = Field(
        default=(), description="The same, of which every prompt must come out right, asked greedily."
    )
    approval: bool = Field(
        default=False, description="A version that passes waits for an approver's `activate` (true or false)."
    )

    @property
    def error(self) -> float:
        """Error rate of each one-sided bound."""
        return self.alpha / self.refreshes


class ReleaseSettings(Group):
    shadow: Share = Field(
        default=0.1,
        description="Share (0 to 1) of live prompts that a version which passed its gate answers unseen before anybody gets "
        "it; 0: no such stage.",
    )
    canary: Share = Field(
        default=0.1, description="Share (0 to 1) of clients that get it before all others; 0: no such stage."
    )
    responses: PositiveInt = Field(
        default=200,
        description="Responses to low-band prompts on either side after which a stage that found nothing is over.",
    )
    minutes: PositiveFloat = Field(default=30.0, description="Minutes after which it is over in any case.")
    refusals: Points = Field(
        default=3.0, description="Rise of refusals of low-band prompts that is allowed, in percentage points."
    )
    length: Percent = Field(
        default=25.0, description="Change of the mean length of answers to them, either way, in percent."
    )
    entropy: NonNegativeFloat = Field(default=0.3, description="Rise of the mean token entropy of answers to them, in nats.")
    halts: Points = Field(default=3.0, description="Rise of responses that the guard touches, in percentage points.")
    ttft: NonNegativeFloat = Field(default=50.0, description="Rise of the mean TTFT at the server, in percent.")
    alpha: Annotated[float, Field(gt=0.0, lt=0.5)] = Field(
        default=0.05, description="Probability (0 to 0.5) that a version which is no worse is ever taken back."
    )
    pins: Annotated[int, Field(ge=0, le=64)] = Field(
        default=2, description="Versions that may be pinned for clients at one time; each takes a LoRA slot."
    )


class LearnSettings(Group):
    interval_s: Annotated[PositiveFloat | None, NoneAware] = Field(
        default=21_600.0, description="Seconds between two updates; none: no interval."
    )
    cron: Annotated[str | None, NoneAware] = Field(
        default=None, description="Cron expression (five fields, UTC) that starts updates; none: no cron."
    )
    min_contested: Annotated[PositiveInt | None, NoneAware] = Field(
        default=200,
        description="New contested or risky events that start an update; none: their number starts none.",
    )
    poll_interval_s: PositiveFloat = Field(default=5.0, description="Seconds between two looks at whether one is due.")

    @field_validator("cron")
    @classmethod
    def _parses(cls, cron: str | None) -> str | None:
        if cron is None:
            return None
        if len(cron.split()) != 5 or not croniter.is_valid(cron):
            raise ValueError("a cron expression has five fields, such as '0 3 * * *' for 03:00 UTC each day")
        try:
            croniter(cron, datetime.now(UTC)).get_next()
        except CroniterBadDateError:
            raise ValueError("this cron expression names a day that never comes") from None
        return cron
