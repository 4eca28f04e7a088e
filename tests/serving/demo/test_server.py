"""The pace of the demo's load: in waves while the learner works, and without a rest once the swap is near."""

from __future__ import annotations

import asyncio

from serving.demo.server import Pace


def test_clients_begin_with_the_same_wave_however_long_their_answers_took():
    pace = Pace(streams=3, every_s=5.0, pause_s=0.0)
    assert {passed + pace.rest(passed) for passed in (0.0, 0.5, 1.25, 4.75)} == {5.0}
    assert {passed + pace.rest(passed) for passed in (5.0, 5.5, 9.75)} == {10.0}


def test_a_hurry_ends_the_rest_at_once_and_keeps_the_pause():
    async def asked() -> tuple[bool, bool]:
        pace = Pace(streams=1, every_s=3600.0, pause_s=0.0)
        resting = asyncio.create_task(pace.wait(asyncio.get_running_loop().time()))
        await asyncio.sleep(0)
        rested = not resting.done()
        pace.hurried.set()
        await asyncio.wait_for(resting, 60)
        await asyncio.wait_for(pace.wait(0.0), 60)
        return rested, resting.done()

    assert asyncio.run(asked()) == (True, True)
