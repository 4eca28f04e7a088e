"""Every metric of the project: names, labels and help in one place, on the registry vLLM's `/metrics` already serves.

Label sets are closed: a label's values are listed here, and nothing a client sends becomes one. The adapter's version is
the one open value, and only the live one is exported (under PROMETHEUS_MULTIPROC_DIR those before it stay, at 0).
"""

from __future__ import annotations

from functools import partial
from typing import get_args

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from guard.policy import Action
from guard.verdict import Verdict
from online.admission.queued import FATES
from online.registry.release_record import Stage
from serving.api_formats import API_FORMATS

ENTROPY_BUCKETS = (0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
HARM_BUCKETS = (-8.0, -6.0, -4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0)
TTFT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SWAP_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
UPDATE_BUCKETS = (10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0)

UPDATE_OUTCOMES = ("promoted", "waiting", "rejected", "undecided", "refused", "failed")
RELEASE_OUTCOMES = ("promoted", "withdrawn")
ROUTES = (*API_FORMATS, "other")
UNREPORTED = ("beam_search", "unknown_route", "unreadable", "exempt_module", "aborted", "guard_failure")


class Metrics:
    """The metrics as attributes; `registry` is prometheus-client's default one unless a test brings its own."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        # Where an operator sets PROMETHEUS_MULTIPROC_DIR samples of dead processes lie beside ours: the newest one counts.
        gauge = partial(Gauge, multiprocess_mode="livemostrecent")
        self.response_entropy = Histogram(
            "sirl_response_entropy_nats",
            "Mean token entropy of a finished client response, in nats.",
            ["verdict"],
            buckets=ENTROPY_BUCKETS,
            registry=registry,
        )
        self.harm = Histogram(
            "sirl_harm_log_odds",
            "Log-odds that a finished client response's request is harmful, read around the end of its prompt.",
            ["verdict"],
            buckets=HARM_BUCKETS,
            registry=registry,
        )
        self.verdicts = Counter("sirl_verdicts", "Finished client responses by verdict.", ["verdict"], registry=registry)
        self.actions = Counter("sirl_actions", "What the guard did, by action.", ["action"], registry=registry)
        self.entropy_gap = gauge(
            "sirl_entropy_gap_nats",
            "Over the low band: mean entropy of responses that opened otherwise minus that of refusals (500 each), in nats.",
            registry=registry,
        )
        self.contested_waiting = gauge(
            "sirl_contested_prompts_waiting",
            "Risky and contested events stored since the last update began.",
            registry=registry,
        )
        self.queue = gauge(
            "sirl_queue_prompts",
            "Distinct prompts that the learner found in the buffer, by what it may do with them.",
            ["fate"],
            registry=registry,
        )
        self.updates = Counter("sirl_updates", "Finished updates of the learner by outcome.", ["outcome"], registry=registry)
        self.update_duration = Histogram(
            "sirl_update_duration_seconds",
            "Wall time of an update from its start to its outcome.",
            buckets=UPDATE_BUCKETS,
            registry=registry,
        )
        self.update_progress = gauge(
            "sirl_update_progress_ratio", "Progress of the running update, 0 to 1; 0 when none runs.", registry=registry
        )
        self.learner_up = gauge("sirl_learner_up", "1 while the supervised learner process runs, else 0.", registry=registry)
        self.adapter = gauge(
            "sirl_active_adapter_info", "1 for the adapter new responses get.", ["adapter"], registry=registry
        )
        self.swap_duration = Histogram(
            "sirl_swap_duration_seconds",
            "Time from the decision to swap until new responses get the new adapter.",
            buckets=SWAP_BUCKETS,
            registry=registry,
        )
        self.swap_failures = Counter(
            "sirl_swap_failures", "Swaps that failed; the adapter before stayed live.", registry=registry
        )
        self.release_stage = gauge(
            "sirl_release_stage",
            "1 for the stage of the release under way; all 0 when none is.",
            ["stage"],
            registry=registry,
        )
        self.release_compared = gauge(
            "sirl_release_compared_responses",
            "Responses to low-band prompts compared at this stage: of what serves, and of the version on its way.",
            ["side"],
            registry=registry,
        )
        self.releases = Counter(
            "sirl_releases", "Releases that ended by themselves, by outcome.", ["outcome"], registry=registry
        )
        self.rollbacks = Counter(
            "sirl_rollbacks", "Times a version that served was taken back because it was broken.", registry=registry
        )
        self.buffer_events = gauge("sirl_buffer_events", "Events in the buffer's database.", registry=registry)
        self.buffer_pending = gauge(
            "sirl_buffer_pending_events", "Acknowledged events that are not in the database yet.", registry=registry
        )
        self.buffer_shed = Counter(
            "sirl_buffer_shed", "Events that were not stored because the buffer's queue was full.", registry=registry
        )
        self.buffer_refused = Counter(
            "sirl_buffer_refused",
            "Events that the buffer's database refused for what they hold; kept without their text.",
            registry=registry,
        )
        self.buffer_failing = gauge(
            "sirl_buffer_failing", "1 while the buffer's database cannot be written, else 0.", registry=registry
        )
        self.delivered_ttft = Histogram(
            "sirl_delivered_ttft_seconds",
            "Time from a streaming client request's arrival to its first byte of content leaving the server.",
            buckets=TTFT_BUCKETS,
            registry=registry,
        )
        self.tokens = Counter("sirl_measured_tokens", "Generated tokens that came with their entropy.", registry=registry)
        self.silent = Counter(
            "sirl_unmeasured_tokens",
            "Generated tokens that came without an entropy: the probe is silent.",
            registry=registry,
        )
        self.unreported = Counter(
            "sirl_unreported_responses",
            "Responses that got no verdict or no report, by reason.",
            ["reason"],
            registry=registry,
        )
        self.root_drift = gauge(
            "sirl_root_mass_drift_ratio",
            "How far refusal masses where the newest 500 answers began lie from calibration's, 0 to 1; NaN for under 100.",
            ["route"],
            registry=registry,
        )
        self.calibrated = gauge(
            "sirl_calibrated", "1 while the live adapter has a calibration of its own model, else 0.", registry=registry
        )
        for verdict in Verdict:
            self.verdicts.labels(verdict.value)
            self.response_entropy.labels(verdict.value)
            self.harm.labels(verdict.value)
        for action in Action:
            self.actions.labels(action.value)
        for outcome in UPDATE_OUTCOMES:
            self.updates.labels(outcome)
        for fate in FATES:
            self.queue.labels(fate)
        for outcome in RELEASE_OUTCOMES:
            self.releases.labels(outcome)
        for side in ("serving", "new"):
            self.release_compared.labels(side).set(0)
        self.release(None)
        for route in ROUTES:
            self.root_drift.labels(route).set(float("nan"))
        for reason in UNREPORTED:
            self.unreported.labels(reason)
        self._live: str | None = None
        self.live("base")

    def release(self, stage: Stage | None) -> None:
        """Export the stage of the release under way."""
        for name in get_args(Stage):
            self.release_stage.labels(name).set(name == stage)

    def live(self, name: str) -> None:
        """Export `name` as the only adapter of the info metric that is 1."""
        if self._live is not None:
            self.adapter.labels(self._live).set(0)  # clear() takes nothing out of the files of PROMETHEUS_MULTIPROC_DIR
        self.adapter.clear()
        self.adapter.labels(name).set(1)
        self._live = name
