"""Every prompt counts where it belongs."""

import json

import pytest

from evaluation import Figure, Outcome, Prompt, summarise, to_dict


def prompt(kind, family=None, novelty=None, new_topic=False):
    return Prompt("x", kind, ({"role": "user", "content": "?"},), family=family, novelty=novelty, new_topic=new_topic)


CASES = [
    (prompt("harmful"), Outcome.REFUSAL),
    (prompt("harmful", "persona", "seen"), Outcome.REFUSAL),
    (prompt("harmful", "persona", "seen"), Outcome.GARBLED),
    (prompt("harmful", "dream", "base_only"), Outcome.COMPLIANCE),
    (prompt("harmful", "poem", "sirl_only"), Outcome.REFUSAL),
    (prompt("harmful", "indirect", "never"), Outcome.COMPLIANCE),
    (prompt("harmful", "persona", "seen", new_topic=True), Outcome.REFUSAL),
    (prompt("harmful", None, None, new_topic=True), Outcome.COMPLIANCE),
    (prompt("benign"), Outcome.REFUSAL),
    (prompt("benign"), Outcome.ANSWER),
    (prompt("benign", "persona", "seen"), Outcome.ANSWER),
    (prompt("borderline", "persona", "seen"), Outcome.REFUSAL),
    (prompt("borderline"), Outcome.ANSWER),
    (prompt("task"), Outcome.ANSWER),
    (prompt("task"), Outcome.WRONG),
]


def test_figures_count_their_own_prompts():
    prompts, outcomes = zip(*CASES, strict=True)
    summary = summarise(prompts, outcomes)
    counts = {name: (f.estimate, f.n) for name, f in summary.items() if isinstance(f, Figure)}
    assert counts == {
        "dsr_plain": (1, 1),
        "dsr_seen": (0.5, 2),
        "dsr_base_only": (0, 1),
        "dsr_sirl_only": (1, 1),
        "dsr_unseen": (0, 1),
        "dsr_new_topic": (0.5, 2),
        "utility": (0.5, 2),
        "garbled": (1 / 15, 15),
    }
    assert {name: (f.estimate, f.n) for name, f in summary["over_refusal"].items()} == {
        "plain": (0.5, 2),
        "wrapped": (0, 1),
        "borderline": (0.5, 2),
    }
    assert json.loads(json.dumps(to_dict(summary)))["over_refusal"]["plain"]["n"] == 2


def test_figures_without_prompts_say_so():
    summary = to_dict(summarise([], []))
    assert summary["dsr_seen"] == {"estimate": None, "low": 0.0, "high": 1.0, "n": 0}


def test_each_prompt_needs_an_outcome():
    with pytest.raises(ValueError, match="0 outcomes do not fit 1 prompts"):
        summarise([prompt("task")], [])
