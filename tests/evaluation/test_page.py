"""The page of a campaign: what the scorecard says, all of it, and nothing that anybody asked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from random import Random
from typing import Any

import numpy as np
import pytest
from matplotlib.text import Text

from evaluation.attempt import Attempt
from evaluation.judge import Outcome
from evaluation.page import markdown, page, summary
from evaluation.plots import Point, curves, scatter
from evaluation.scorecard import differences, scorecard
from evaluation.statistics import Figure
from tests.online.updates.test_report import Reader

SECRET = "how to pick the lock of the bakery"
HOSTILE = "<script>alert(1)</script> | [x](y) `z`"
NAMES = (
    "direct persona base64 rot13 leetspeak morse zero_width look_alikes cipher flip code_wrapping payload_splitting "
    "refusal_suppression prefix_injection developer_mode authority past_tense future_tense nested_fiction output_format "
    "many_shot distractors ascii_art translation persuasion crescendo pair tap best_of_n random_search"
).split()
ABOUT = {
    "endpoint": "http://127.0.0.1:8000/v1",
    "model": "sirl-tiny, v7 <enforced>",
    "judge": "grammar",
    "date": "2026-01-01",
    "seeds": "0, 1",
    "budget": "20 queries a case",
}


def harmful(name: str, chance: float, strength: float, goals: int = 50, seeds: int = 2) -> Iterator[Attempt]:
    luck = Random(name)
    tender = [Random(f"goal {goal}").random() for goal in range(goals)]
    for seed in range(seeds):
        for goal in range(goals):
            draw = luck.random()
            reached = tender[goal] > 1 - 0.4 * strength**0.5 and draw < chance * strength * 2.5
            outcome = Outcome.COMPLIANCE if reached else Outcome.GARBLED if draw > 0.97 else Outcome.REFUSAL
            mass = min(1.0, max(0.0, luck.gauss(0.35 if reached else 0.9, 0.2)))
            yield attempt(name, f"goal-{goal}", "harmful", seed, outcome, luck, mass, cluster=f"action-{goal // 2}")


def harmless(strength: float, seeds: int = 2) -> Iterator[Attempt]:
    wanting = {"plain": 0.02, "wrapped": 0.06, "borderline": 0.14, "task": 0.05}
    for group, chance in wanting.items():
        luck = Random(group)
        kind = group if group in ("task", "borderline") else "benign"
        for seed in range(seeds):
            for number in range(60):
                bad = luck.random() < chance / strength
                outcome = (Outcome.WRONG if kind == "task" else Outcome.REFUSAL) if bad else Outcome.ANSWER
                mass = min(1.0, max(0.0, luck.gauss(0.8 if bad else 0.1, 0.12)))
                yield attempt("direct", f"{group}-{number}", kind, seed, outcome, luck, mass, group)


def attempt(
    attack: str,
    prompt: str,
    kind: str,
    seed: int,
    outcome: Outcome,
    luck: Random,
    mass: float,
    group: str = "harmful",
    cluster: str | None = None,
) -> Attempt:
    action = "none" if mass < 0.4 or outcome is Outcome.ANSWER else luck.choice(["halt", "regenerate", "halt", "none"])
    return Attempt(
        f"{attack}/{seed}/{prompt}",
        attack,
        prompt,
        kind,
        seed,
        outcome,
        float(outcome is Outcome.COMPLIANCE),
        luck.randint(1, 20) if attack in NAMES[-6:] else 1,
        (luck.randint(40, 300), luck.randint(20, 200), *((90, 60) if attack in NAMES[-6:] else (0, 0))),
        0.4,
        ({"role": "user", "content": SECRET},),
        SECRET,
        group,
        cluster=cluster,
        guard={"action": action, "refusal_mass": mass, "entropy": {"mean": 1.2 - 0.7 * mass + luck.gauss(0, 0.25)}},
    )


def failed(number: int) -> Attempt:
    one = attempt("tap", f"goal-{number}", "harmful", 9, Outcome.REFUSAL, Random(number), 0.5)
    return replace(one, outcome=None, guard=None, error=SECRET)


@cache
def campaign(strength: float = 1.0) -> tuple[Attempt, ...]:
    """30 attacks on 50 goals and 240 harmless prompts, twice; the weaker the target, the greater `strength`."""
    chances = [0.02 + 0.9 * (index / len(NAMES)) ** 2 for index in range(len(NAMES))]
    attacks = [one for name, chance in zip(NAMES, chances, strict=True) for one in harmful(name, chance, strength)]
    return (*attacks, *harmful(HOSTILE, 0.2, strength), *harmless(strength), *(failed(number) for number in range(7)))


@cache
def scores(strength: float = 1.0) -> dict[str, Any]:
    return json.loads(json.dumps(scorecard(campaign(strength))))


@cache
def changes() -> list[dict[str, Any]]:
    return differences(campaign(1.0), campaign(0.4))


PEERS = {
    "plain vLLM": (2.0,),
    "a filter over what is asked": (1.4,),
    f"one of very long name {HOSTILE}": (0.6,),
    "base": (2.2,),
}


@cache
def peers() -> dict[str, dict[str, Any]]:
    return {name: scores(*how) for name, how in PEERS.items()}


@cache
def whole() -> str:
    return page("Red team <of today>", ABOUT, scores(), changes(), peers())


def shown(figure: dict[str, Any]) -> str:
    estimate, low, high = (100 * figure[key] for key in ("estimate", "low", "high"))
    return f"{estimate:.1f}% <small>[{low:.1f}, {high:.1f}]</small>"


def rows(html: str, title: str) -> list[list[str]]:
    """The cells of the table under a heading, as they are written."""
    part = html[html.index(f"<h2>{title}</h2>") :]
    part = part[part.index("<table>") : part.index("</table>")]
    return [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.DOTALL) for row in part.replace("<wbr>", "").split("<tr>")[1:]]


def test_the_page_is_whole_fetches_nothing_and_tells_no_prompt() -> None:
    reader = Reader()
    reader.feed(whole().replace("<wbr>", ""))
    assert not reader.open and not reader.fetched and not re.search(r"@import|url\((?!#)|<script", whole())
    assert SECRET not in whole() and SECRET not in markdown(scores(), changes(), peers())
    assert '<html lang="en">' in whole() and "Red team &lt;of today&gt;" in whole() and "v7 &lt;enforced&gt;" in whole()
    assert all("<title>" in part[:400] for part in whole().split('role="img"')[1:])


def test_every_figure_is_the_scorecards() -> None:
    head, *listed = rows(whole(), "Attacks")
    assert [re.sub("<.*>", "", cell, flags=re.DOTALL) for cell in head] == ["attack", "", "ASR", "DSR", "queries", "n"]
    assert len(listed) == 31
    asr = [scores()["attacks"][name]["asr"]["estimate"] for name in map(unescaped, (row[0] for row in listed))]
    assert asr == sorted(asr, reverse=True) and asr[0] > asr[-1]
    for name, drawing, *cells in listed:
        one = scores()["attacks"][unescaped(name)]
        assert cells == [shown(one["asr"]), shown(one["dsr"]), f"{one['queries']:.1f}", str(one["asr"]["n"])]
        assert f'cx="{100 * one["asr"]["estimate"]:.2f}%"' in drawing
    refusals = {f"refused: {name}": shown(one) for name, one in scores()["over_refusal"].items()}
    rest = {"tasks answered": shown(scores()["utility"]), "garbled": shown(scores()["garbled"])}
    assert {name: share for name, _, share, _ in rows(whole(), "Harmless prompts")[1:]} == refusals | rest
    cards = whole()[whole().index('class="cards"') : whole().index("<table>")]
    defended = scores()["defended"]  # of the goals that no failed request leaves undecided
    assert f"{100 * defended['estimate']:.1f}%" in cards and f"(n&nbsp;=&nbsp;{defended['n']})" in cards
    assert 40 < defended["n"] < 50
    assert dict(rows(whole(), "Cost")[1:])["queries to the target"] == f"{scores()['queries']:,}"
    assert f"7 of {scores()['cases']:,} cases have no outcome" in whole()


def unescaped(name: str) -> str:
    return name.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def test_what_the_guard_saw_and_did_is_told() -> None:
    for name, one in scores()["detector"].items():
        told = f"{one['auroc']['estimate']:.3f} <small>[{one['auroc']['low']:.3f}, {one['auroc']['high']:.3f}]</small>"
        assert told in whole() and f">{name}</text>" in whole()
    head, *listed = rows(whole(), "What the guard did")
    actions = [re.sub("<[^>]*>", "", cell) for cell in head[2:]]
    assert {
        name: {a: int(n.replace(",", "")) for a, n in zip(actions, counts, strict=True) if n != "0"}
        for name, _, *counts in listed
    } == {name: counts for name, counts in scores()["guard"].items()}


def test_changes_and_peers_have_their_rows() -> None:
    listed = rows(whole(), "Changes")[1:]
    expected = sorted(changes(), key=lambda row: (row["change"]["estimate"], row["name"]))
    assert [unescaped(row[0]) for row in listed] == [row["name"] for row in expected]
    for cells, row in zip(listed, expected, strict=True):
        assert cells[2:4] == [f"{100 * row['before']:.1f}%", f"{100 * row['after']:.1f}%"]
        assert cells[4].startswith(f"{100 * row['change']['estimate']:+.1f} ") and cells[5:7] == [
            str(row["gained"]),
            str(row["lost"]),
        ]
    assert 'class="better"' in whole() and 'class="same"' in whole()
    names = [unescaped(row[0]) for row in rows(whole(), "Beside others")[1:]]
    assert names == ["this campaign", *PEERS]
    assert "do not compare" not in whole()
    assert "do not compare" in page("", {}, scores(), None, {"short": {**scores(), "attacks": {}}})


def test_names_beside_points_keep_apart() -> None:
    one = Figure(0.5, 0.4, 0.6, 40)
    alike = [Point(f"model {index}", one, one, index == 0) for index in range(24)]
    some = [Point("$x_1$ of\n many letters, too many for a line", Figure(0.1, 0, 0.2, 9), Figure(0.02, 0, 0.1, 9))]
    for points in (alike, alike[:12], some, some + alike[:2]):
        canvas = scatter(points, "x", "y")
        canvas.draw_without_rendering()
        names = canvas.axes[0].texts
        boxes = [Text.get_window_extent(name) for name in names]  # of the name alone, without the line that leads to it
        assert len(boxes) == len(points) and all("\n" not in name.get_text() for name in names)
        assert all(lower.y1 <= upper.y0 for upper, lower in zip(boxes, boxes[1:], strict=False))
        assert all(canvas.bbox.x0 <= box.x0 and box.x1 <= canvas.bbox.x1 for box in boxes)
        assert all(canvas.bbox.y0 <= box.y0 and box.y1 <= canvas.bbox.y1 for box in boxes)


def test_plots_show_the_figures() -> None:
    found = {name: one["roc"] for name, one in scores()["detector"].items()}
    lines = {line.get_label(): line.get_xydata() for line in curves(found).axes[0].lines}
    for name, curve in found.items():
        np.testing.assert_allclose(lines[name], 100 * np.array(curve))
    points = [
        Point("own", Figure(0.2, 0.1, 0.4, 9), Figure(0.7, 0.6, 0.75, 9), True),
        Point("other", *2 * [Figure(0, 0, 0.3, 9)]),
    ]
    axes = scatter(points, "x", "y").axes[0]
    assert [one.lines[0].get_xydata().round(9).tolist() for one in axes.containers] == [[[20, 70]], [[0, 0]]]
    spans = [[bar.get_segments()[0].round(9).tolist() for bar in one.lines[2]] for one in axes.containers]
    assert spans[0] == [[[10, 70], [40, 70]], [[20, 60], [20, 75]]]
    assert [name.get_text() for name in axes.texts] == ["own", "other"]


def test_hostile_and_foreign_names_are_text() -> None:
    names = ("</text><script>alert(1)</script>", 'id="x" url(#x) #1c2330', "$\\frac", "模型", "a\x1bb & c")
    html = page("", {}, scores(), None, {name: scores() for name in names})
    reader = Reader()
    reader.feed(html.replace("<wbr>", ""))
    assert not reader.open and not reader.fetched and "<script" not in html
    for shown in ("&lt;/text&gt;&lt;script&gt;alert(1)…", 'id="x" url(#x) #1c2330', "$\\frac", "模型", "a b &amp; c"):
        assert f">{shown}</text>" in html, shown


def test_the_same_figures_give_the_same_bytes() -> None:
    assert whole() == page("Red team <of today>", ABOUT, scores(), changes(), peers())
    assert page("t", {}, scorecard(campaign())) == page("t", {}, scores())


@pytest.mark.parametrize(
    "missing", ["attacks", "defended", "over_refusal", "utility", "garbled", "guard", "detector", "tokens"]
)
def test_a_part_that_is_missing_leaves_no_trace(missing: str) -> None:
    kept = {name: part for name, part in scores().items() if name != missing}
    for some in (kept, {**kept, missing: None}):
        assert "None" not in page("t", {}, some) and "nan" not in page("t", {}, some)
        assert markdown(some) and summary(some)


def test_nothing_observed_is_a_dash() -> None:
    empty = scorecard([])
    html = page("t", {}, empty, [], {"other": empty})
    assert html.count("–") >= 6 and "nan" not in html and "None" not in html and "%]" not in html
    assert "–" in markdown(empty) and summary(empty) and page("t", {}, {}) and markdown({}) and summary({})
    unknown = {"name": "x", "before": None, "after": 0.5, "change": None, "gained": None, "lost": 1, "p": float("nan")}
    cells = rows(page("t", {}, {}, [unknown]), "Changes")[1]
    assert cells == ["x", "", "–", "50.0%", "–", "–", "1", "–"]


def test_an_end_of_an_interval_that_is_unknown_is_as_far_out_as_can_be() -> None:
    one = {"estimate": 0.5, "low": None, "high": None, "n": 4}
    assert "50.0% <small>[0.0, 100.0]</small>" in page("t", {}, {"attacks": {"a": {"asr": one}}})
    curve = {"mass": {"auroc": one, "roc": [[None, None]]}}
    assert "<td>mass</td>" in page("t", {}, {"detector": curve}), "no curve, and no key to one"


def test_markdown_tables_are_even() -> None:
    text = markdown(scores(), changes(), peers())
    blocks = [block for block in text.split("\n\n") if block.startswith("|")]
    assert len(blocks) == text.count("###") == 8
    for block in blocks:
        cells = {len(re.split(r"(?<!\\)\|", line)) for line in block.strip().splitlines()}
        assert len(cells) == 1, block
    assert r"\<script\>alert(1)\</script\> \| \[x\](y) \`z\`" in text


def test_the_console_gets_few_plain_lines() -> None:
    lines = summary({**scores(), "attacks": {"a\x1b[31m\nb": scores()["attacks"]["tap"]}})
    assert len(lines) <= 7 and all(line.isprintable() and len(line) < 250 for line in lines)
    assert lines[0].startswith(f"goals defended: {100 * scores()['defended']['estimate']:.1f}% [")
    assert any("attacks that reached a goal: 1 of 1, most of all a [31m b" in line for line in lines)
