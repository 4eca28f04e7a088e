"""What the API process makes of one engine output: words come off, and what was not measured is on record as that."""

from __future__ import annotations

import asyncio
import math
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from guard.beginnings import Beginnings
from guard.calibration import Bands, Calibration
from guard.gatekeeper import Gatekeeper, Move
from guard.openings import Openings
from guard.packed_measurement import pack
from guard.policy import Action, Mode, Policy
from guard.record import ResponseRecord
from guard.rule import Rule, Score
from serving.request.exchange import Exchange, ServedAnswer

pytestmark = pytest.mark.filterwarnings("ignore")  # vLLM's own, as it is imported
OPENINGS = Openings(((7,),))
RULE = Rule(threshold=0.0)
FITTED = Calibration("m", "base", OPENINGS, Bands(0.1, 0.2), Bands(0.1, 0.2), 1.0, "", RULE)


@pytest.fixture(scope="module")
def tap():
    """The module, imported where vLLM's warnings are let pass."""
    from serving.engine import output_tap

    return output_tap


def output(tokens: list[int], words: list[int] | None) -> SimpleNamespace:
    lists = None
    if words is not None:
        from vllm.v1.outputs import LogprobsLists

        column = np.array(tokens, np.int64)[:, None].repeat(3, 1)
        lists = LogprobsLists(column, np.full(column.shape, -0.5, np.float32), np.array(words, np.int64))
    return SimpleNamespace(request_id="r", new_token_ids=tokens, new_logprobs=lists, finish_reason=None)


def test_words_come_off_and_ranks_go_on(tap):
    record, sent = ResponseRecord(OPENINGS), output([3, 4], pack([1.5, 0.5], [0.25, 0.75], [2, 9]).tolist())
    tap.measure(sent, record, False)
    assert record.entropies == [1.5, 0.5] and record.masses == pytest.approx([0.25, 0.75], abs=1e-4)
    assert sent.new_logprobs.sampled_token_ranks.tolist() == [2, 9]


@pytest.mark.parametrize("words", [None, [5, 6], [5]], ids=["no logprobs", "plain ranks", "too few"])
def test_what_no_probe_measured_is_on_record_as_not_measured(tap, words):
    record = ResponseRecord(OPENINGS)
    tap.measure(output([3, 4], words), record, False)
    assert record.tokens == [3, 4] and all(map(math.isnan, record.entropies + record.masses))
    assert record.refusal_mass is None and record.first_mass is None


@pytest.mark.parametrize("closed", [True, False])
def test_a_decision_that_was_not_measured_is_a_failed_guard(tap, closed):
    """Halted or let pass, as configured, and counted; a mass of 0 would have let it pass as plain."""
    failed: list[ServedAnswer] = []
    ours = SimpleNamespace(closed=closed, watcher=SimpleNamespace(failed=failed.append))
    answer = ServedAnswer(Exchange(policy=Policy(Mode.ENFORCE)), 0, "base", ResponseRecord(OPENINGS), FITTED)
    tapped = tap.Tapped(answer, False, SimpleNamespace(), Gatekeeper(RULE))
    tap.measure(output([3], [5]), answer.record, False)
    ours.moved = partial(tap.Tap.moved, ours)
    assert tap.Tap.decided(ours, tapped, tapped.gatekeeper, ended=False) is (Move.TOUCH if closed else Move.RELEASE)
    assert failed == [answer]


def test_logprobs_are_withheld_row_by_row(tap):
    lists = output([3, 4], [0, 0]).new_logprobs
    lists.logprob_token_ids[:, 1:] = 8
    kept = tap.withheld(lists, [0])
    assert kept.logprob_token_ids.tolist() == [[3, 3, 3], [4, 8, 8]]
    assert kept.logprobs.tolist() == [[tap.WITHHELD] * 3, [-0.5] * 3] and lists.logprobs[0, 0] == -0.5


def test_only_who_sees_all_gets_logprobs_of_where_refusing_was_weighed(tap):
    def told(trusted: bool) -> list[float]:
        answer = ServedAnswer(
            Exchange(policy=Policy(Mode.ENFORCE, trusted=trusted)), 0, "base", ResponseRecord(OPENINGS, Beginnings())
        )
        gatekeeper = Gatekeeper(RULE)
        answer.record.extend([3, 4], [1.0] * 2, [0.1] * 2)
        assert gatekeeper.move(answer.record, ended=False) is Move.RELEASE
        first, second = output([3], [0]), output([4], [0])
        tap.Tap.let_go(SimpleNamespace(), tap.Tapped(answer, False, SimpleNamespace(), gatekeeper), [first, second])
        return [first.new_logprobs.logprobs[0, 0], second.new_logprobs.logprobs[0, 0]]

    assert told(trusted=False) == [tap.WITHHELD, -0.5] and told(trusted=True) == [-0.5, -0.5]


def test_a_draw_that_the_guard_breaks_on_does_not_pass(tap):
    """Whatever breaks, it is that one draw: the loop that hands out everybody's tokens goes on."""

    class Broken(Gatekeeper):
        def move(self, record, *, ended):
            raise KeyError("a defect")

    ours = SimpleNamespace()
    ours.moved = partial(tap.Tap.moved, ours)
    for gatekeeper, passes in ((Gatekeeper(RULE), True), (Broken(RULE), False)):
        draw = tap.Draw(ResponseRecord(OPENINGS), False, SimpleNamespace(done=lambda: True), gatekeeper)
        last = output([7], pack([0.1], [0.9], [1]).tolist())
        last.finish_reason = "stop"
        tap.Tap.collect(ours, draw, last)
        assert draw.passes is passes


STOPS = 9
"""A token whose text is a stop string, which vLLM's processor finds."""


class Drawer:
    """Draws another answer once it is told which; an exception is raised."""

    def __init__(self):
        self.drawn, self.stopped = asyncio.get_running_loop().create_future(), []

    async def redrawn(self, tapped):
        return await self.drawn

    async def stop(self, identity):
        self.stopped.append(identity)


class Processor:
    """vLLM's output processor, as far as a tap knows it: what it was given, by request."""

    log_stats, tokenizer = False, None

    def __init__(self):
        detokenizer = SimpleNamespace(output_text="text", num_output_tokens=lambda: len(self.sent))
        self.request_states = {"r": SimpleNamespace(request_id="r", detokenizer=detokenizer)}
        self.sent: list[int] = []

    def add_request(self, *given): ...

    def process_outputs(self, outputs, *given):
        stopped = []
        for one in outputs:
            if one.request_id in self.request_states:
                self.sent += one.new_token_ids
                if STOPS in one.new_token_ids and one.finish_reason is None:
                    stopped.append(one.request_id)
                if one.finish_reason is not None or stopped:
                    del self.request_states[one.request_id]
        return SimpleNamespace(reqs_to_abort=stopped)

    def abort_requests(self, identities, internal):
        return [one for one in identities if self.request_states.pop(one, None)]


class Place:
    """A choice that has opened as a needless refusal, token 7, and waits for another answer."""

    def __init__(self, tap):
        self.told: list[tuple[str, ServedAnswer]] = []
        watcher = SimpleNamespace(
            **{
                name: lambda answer, name=name: self.told.append((name, answer))
                for name in ("finished", "aborted", "failed")
            }
        )
        self.processor, self.drawer = Processor(), Drawer()
        self.tap = tap.Tap(self.processor, lambda index: None, watcher, self.drawer, separator=(), end=0, closed=False)
        self.answer = ServedAnswer(Exchange(policy=Policy(Mode.ENFORCE)), 0, "base", ResponseRecord(OPENINGS), FITTED)
        self.answer.record.harm = -5.0
        rule = Rule(threshold=0.0, sensed=Score({"harm": 1.0}), sensed_threshold=0.0)
        request, gatekeeper = SimpleNamespace(request_id="r"), Gatekeeper(rule, needless=-1.0)
        self.tap.live["r"] = tap.Tapped(self.answer, False, request, gatekeeper)
        self.engine(7)
        assert self.processor.sent == [] and self.tap.live["r"].redraw is not None

    def engine(self, token: int, reason: str | None = None) -> None:
        """The engine says one token more."""
        said = output([token], pack([0.1], [0.9], [1]).tolist())
        said.finish_reason = reason
        self.processor.process_outputs([said])


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize("cause", [None, RuntimeError("the engine did not answer")])
def test_an_over_refusal_that_nothing_takes_the_place_of_goes_out_whole(tap, cause):
    async def scenario() -> None:
        place = Place(tap)
        place.engine(3)
        assert place.processor.sent == []
        place.drawer.drawn.set_result(None) if cause is None else place.drawer.drawn.set_exception(cause)
        await settled()
        assert place.processor.sent == [7, 3]
        place.engine(4)
        place.engine(0, "stop")
        assert place.processor.sent == [7, 3, 4, 0] and place.drawer.stopped == []
        assert [name for name, _ in place.told] == ([] if cause is None else ["failed"]) + ["finished"]
        assert place.answer.action is Action.NONE and not place.tap.live

    asyncio.run(scenario())


def test_where_vllm_finds_a_stop_string_in_what_was_held_the_engine_stops(tap):
    async def scenario() -> None:
        place = Place(tap)
        place.engine(STOPS)
        place.drawer.drawn.set_result(None)
        await settled()
        assert place.processor.sent == [7, STOPS] and place.drawer.stopped == ["r"] and not place.tap.live

    asyncio.run(scenario())


def test_one_that_ended_meanwhile_goes_out_at_once(tap):
    async def scenario() -> None:
        place = Place(tap)
        place.engine(0, "stop")
        place.drawer.drawn.set_result(None)
        await settled()
        assert place.processor.sent == [7, 0] and [name for name, _ in place.told] == ["finished"] and not place.tap.live

    asyncio.run(scenario())


@pytest.mark.parametrize("ended", [False, True])
def test_what_takes_its_place_is_sent_under_its_name_and_the_engine_stops(tap, ended):
    async def scenario() -> None:
        place = Place(tap)
        if ended:
            place.engine(0, "stop")
        drawn = output([5, 6], pack([0.3, 0.2], [0.1, 0.0], [1, 1]).tolist())
        drawn.finish_reason, drawn.request_id, drawn.events, drawn.prefill_stats = "stop", "r-draw0", None, None
        place.tap.live["r"].held[0].events = place.tap.live["r"].held[0].prefill_stats = None
        record = ResponseRecord(OPENINGS)
        place.drawer.drawn.set_result(tap.Draw(record, False, SimpleNamespace(), Gatekeeper(RULE), outputs=[drawn]))
        await settled()
        assert place.processor.sent == [5, 6] and place.answer.action is Action.REDRAW and place.answer.record is record
        assert place.drawer.stopped == ([] if ended else ["r"]) and not place.tap.live
        place.engine(3)  # the engine had one more on its way
        assert place.processor.sent == [5, 6] and [name for name, _ in place.told] == ["finished"]

    asyncio.run(scenario())


def test_a_client_that_leaves_takes_its_redraw_along(tap):
    async def scenario() -> None:
        place = Place(tap)
        await settled()
        place.processor.abort_requests(["r"], False)
        await settled()
        assert place.drawer.drawn.cancelled() and [name for name, _ in place.told] == ["aborted"] and not place.tap.live

    asyncio.run(scenario())


def test_where_sending_breaks_the_client_has_an_error_and_the_engine_stops(tap):
    async def scenario() -> None:
        place = Place(tap)
        errors, state = [], place.processor.request_states["r"]
        state.queue = SimpleNamespace(put=errors.append)
        place.tap.taken = lambda *given: 1 / 0
        record = ResponseRecord(OPENINGS)
        place.drawer.drawn.set_result(tap.Draw(record, False, SimpleNamespace(), Gatekeeper(RULE)))
        await settled()
        assert [type(error) for error in errors] == [RuntimeError] and place.drawer.stopped == ["r"] and not place.tap.live

    asyncio.run(scenario())
