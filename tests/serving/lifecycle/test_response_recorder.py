"""Which finished answers become events; tests/serving/request/test_reporter.py has them of a running server."""

from __future__ import annotations

from random import Random
from types import SimpleNamespace

import pytest

from guard.record import ResponseRecord
from online.events.event import Event
from serving.lifecycle.service import Service
from serving.request.exchange import Exchange, ServedAnswer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's, when vLLM is imported


class Everything(list[Event]):
    """A sink that takes every event."""

    def wants(self, verdict: str, rng: Random) -> bool:
        return True

    def offer(self, event: Event) -> bool:
        self.append(event)
        return True


def answer(**about: object) -> ServedAnswer:
    return ServedAnswer(Exchange("/v1/chat/completions"), 0, "base", ResponseRecord(None), prompt_tokens=(1, 2), **about)


def test_what_shows_the_model_an_image_is_answered_and_teaches_nothing(service: Service) -> None:
    service.recorder.sink = events = Everything()
    service.recorder.finished(answer())
    assert [event.prompt_tokens for event in events] == [(1, 2)]
    service.recorder.finished(answer(multimodal=True))
    assert len(events) == 1


def test_what_shows_the_model_an_image_is_compared_with_nothing_that_cannot_see_it(service: Service) -> None:
    told: list[ServedAnswer] = []
    service.recorder.compare = told.append
    for found in (answer(multimodal=True), plain := answer()):
        service.recorder.finished(found)
    assert told == [plain]


def test_what_the_harm_sense_read_is_counted_where_it_read(service: Service) -> None:
    for harm in (None, -3.5, 2.0):
        found = answer()
        found.record.harm = harm
        service.recorder.finished(found)
    samples = [sample for metric in service.metrics.harm.collect() for sample in metric.samples]
    told = {(s.name, s.labels.get("le")): s.value for s in samples if s.labels["verdict"] == "uncalibrated"}
    assert told["sirl_harm_log_odds_count", None] == 2 and told["sirl_harm_log_odds_bucket", "0.0"] == 1


@pytest.mark.parametrize("images", [None, [], ["an image"]])
def test_the_engine_s_request_tells_whether_there_is_one(images: list | None) -> None:
    from vllm.sampling_params import SamplingParams

    from serving.engine.output_tap import Tap
    from serving.engine.packing import ENTROPY_ONLY

    found = answer()
    processor = SimpleNamespace(add_request=lambda *_: None, process_outputs=None, abort_requests=None)
    tap = Tap(processor, lambda index: found, None, None, separator=(), end=0, closed=False)
    params = SamplingParams(logprobs=0, extra_args={ENTROPY_ONLY: True})
    tap.add_request(
        SimpleNamespace(sampling_params=params, mm_features=images, prompt_token_ids=[5, 6], request_id="r"), None
    )
    assert found.multimodal == bool(images) and found.prompt_tokens == (5, 6)
