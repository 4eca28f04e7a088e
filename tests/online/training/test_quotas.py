"""Nobody outvotes everybody else, however much they send."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from guard.calibration import Bands
from online.admission.queue import distinct
from online.admission.queued import Queued
from online.events.event import Event
from online.settings.groups import QueueSettings
from online.training.quotas import LEAST, fair, fair_throughout, owners, topics, within_quotas
from online.training.selector import Selection

KEYS = st.lists(st.sampled_from([*"abcdefgh", None]), max_size=80)
QUOTAS = QueueSettings()


@given(keys=KEYS, share=st.floats(0, 1))
def test_nobody_has_more_of_what_stays_than_their_share(keys: list[str | None], share: float) -> None:
    stays = fair(keys, share)
    left = Counter(key for key, stay in zip(keys, stays, strict=True) if stay)
    assert all(stay for key, stay in zip(keys, stays, strict=True) if key is None)
    senders = {key for key in keys if key is not None}
    for key in senders:
        part = max(share, 2 / len(senders))
        assert left[key] <= max(LEAST, part * sum(left.values()) + 1e-9)
        assert left[key] >= min(LEAST, keys.count(key))


@given(count=st.integers(1, 30), each=st.integers(1, 20), share=st.floats(0, 1))
def test_who_send_alike_lose_nothing(count: int, each: int, share: float) -> None:
    assert all(fair([f"c{at % count}" for at in range(count * each)], share))


def test_a_flood_does_not_raise_its_own_quota() -> None:
    crowd = [f"c{at}" for at in range(100)]
    kept = [sum(stays[100:]) for stays in (fair([*crowd, *["flood"] * much], 0.02) for much in (10, 1000, 100_000))]
    assert kept == [2, 2, 2]


@given(keys=KEYS, share=st.floats(0, 1))
def test_nobody_has_more_than_their_share_of_the_first_ones_however_many(keys: list[str | None], share: float) -> None:
    left = [key for key, stay in zip(keys, fair_throughout(keys, share), strict=True) if stay]
    part = max(share, 2 / max(1, len({key for key in keys if key is not None})))
    for first in range(1, len(left) + 1):
        most = max((many for key, many in Counter(left[:first]).items() if key is not None), default=0)
        assert most <= max(LEAST, part * first + 1e-9)
    assert left.count(None) == keys.count(None)


def test_a_flood_under_the_band_fills_none_of_what_is_nearest_to_it() -> None:
    crowd = [((0, 10_000 + at), f"{at % 50}-client") for at in range(500)]
    flood = [((0, 30_000 + at), "flood") for at in range(400)]
    selection, queued = prompts([*flood, *crowd])
    nearer = [mass + 0.1 * (0 < tokens[1] - 29_999 < 401) for tokens, mass in zip(queued, selection.masses, strict=True)]
    left, _ = within_quotas(Selection.sorted_by(Bands(0.5, 0.5), list(queued), nearer), queued, QUOTAS)
    nearest = sorted(left.low, key=lambda i: -left.masses[i])
    mine = [queued[left.prompts[i]].clients == {"flood"} for i in nearest]
    assert sum(mine[:60]) == LEAST and sum(mine) <= 0.05 * len(mine) and len(mine) - sum(mine) > 450


def test_a_prompt_counts_for_whoever_sent_least() -> None:
    flood, victim = frozenset({"flood"}), frozenset({"flood", "victim"})
    assert owners([flood, flood, flood, victim]) == ["flood", "flood", "flood", "victim"]
    assert owners([frozenset({""})]) == [None]


def prompts(rows: list[tuple[tuple[int, ...], str]]) -> tuple[Selection, dict[tuple[int, ...], Queued]]:
    """Prompts of the high band whose first token is 1, of the low one else, and who sent each."""
    events = [
        Event(f"{at:032x}", at, "base", "plain", "p", tokens, "", (), (), 0.0, None, "stop", client, "", client)
        for at, (tokens, client) in enumerate(rows)
    ]
    queued = {one.tokens: one for one in distinct(((event.id, event) for event in events), "salt")}
    masses = [1.0 if tokens[0] == 1 else 0.0 for tokens in queued]
    return Selection.sorted_by(Bands(0.5, 0.5), list(queued), masses), queued


def test_quotas_hold_in_each_band_whatever_is_in_the_others() -> None:
    ordinary = [((0, 10_000 + at), f"{at % 50}-client") for at in range(500)]
    contested = [((1, 20_000 + at), f"{at % 50}-client") for at in range(100)]
    flood = [((1, 30_000 + at), "flood") for at in range(200)]
    selection, queued = prompts([*ordinary, *contested, *flood])
    left, taken = within_quotas(selection, queued, QUOTAS)
    assert len(left.low) > 450 and taken["topic"] == 0
    mine = sum(queued[left.prompts[i]].clients == {"flood"} for i in left.high)
    assert mine == 4 and len(left.high) == 104 and taken["client"] >= 196


def test_a_topic_is_what_ordinary_traffic_hardly_speaks_of() -> None:
    ordinary = [((0, 5, 10_000 + at), f"{at}-client") for at in range(200)]
    contested = [((1, 5, 100 + at % 25, 20_000 + at), f"{at}-client") for at in range(100)]
    flood = [((1, 5, 777, 30_000 + at), f"{500 + at}-client") for at in range(60)]
    selection, queued = prompts([*ordinary, *contested, *flood])
    high = [selection.prompts[i] for i in selection.high]
    found = topics(high, [min(queued[tokens].clients) for tokens in high], [selection.prompts[i] for i in selection.low])
    assert set(found[100:]) == {777} and set(found[:100]) <= set(range(100, 125))
    left, taken = within_quotas(selection, queued, QUOTAS)
    assert sum(777 in left.prompts[i] for i in left.high) == 11 and taken == {"client": 0, "block": 0, "topic": 49}
    wide = QUOTAS.model_copy(update={"topic_share": 1.0})
    assert within_quotas(selection, queued, wide)[0] == selection
    approved = {tokens: replace(one, fate="approved") for tokens, one in queued.items()}
    assert within_quotas(selection, approved, QUOTAS)[0] == selection


def test_a_topic_that_fills_the_band_is_still_one_where_few_send_it() -> None:
    """More of it does not make it what contested prompts are like."""
    ordinary = [((0, 5, 10_000 + at), f"{at}-client") for at in range(200)]
    contested = [((1, 5, 20_000 + at), f"{at}-client") for at in range(100)]
    for much in (60, 101, 300):
        flood = [((1, 5, 777, 30_000 + at), f"{500 + at % 20}-client") for at in range(much)]
        selection, queued = prompts([*ordinary, *contested, *flood])
        left, _ = within_quotas(selection, queued, QUOTAS.model_copy(update={"client_share": 1.0, "block_share": 1.0}))
        assert sum(777 in left.prompts[i] for i in left.high) <= 0.11 * len(left.high)
