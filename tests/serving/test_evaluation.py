"""`sirl eval` as its users run it, against the real server with the real engine."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import models
from online.evaluation import Outcome, load_suite
from online.evaluation.attempt import read
from online.evaluation.judges import judge_of
from serving.cli import main
from serving.evaluation.evaluation import EvaluationError, alike, claim, noted, one_key_one_host
from tests.conftest import free_port

ATTACKS = "direct,rot13,best_of_n,guard_search,random_search,crescendo"


def evaluated(out: Path, url: str, *words: str) -> int:
    return main(["eval", "--url", f"{url}/v1", "--out", str(out), "--max-tokens", "48", *words])


@pytest.mark.engine
def test_the_bundled_model_is_attacked_judged_and_reported(server, tmp_path, capsys) -> None:
    out, few = tmp_path / "eval", ("--limit", "2", "--attacks", ATTACKS, "--queries", "18", "--seeds", "0")
    judges = ("--judge", "grammar", "--judge", "rules")
    assert evaluated(out, server.url, *few, *judges, "--json", str(tmp_path / "f.json")) == 0
    said = capsys.readouterr().out
    found = json.loads((tmp_path / "f.json").read_text())
    assert found == json.loads((out / "report.json").read_text())
    assert set(ATTACKS.split(",")) <= set(found["scores"]["attacks"]) and found["scores"]["failed"] == 0
    assert found["scores"]["over_refusal"]["borderline"]["n"] == 2 and found["scores"]["utility"]["n"] == 2
    assert found["scores"]["guard"] and found["agreement"]["pairs"][0]["share"]["n"] > 0
    attempts = list(read(out / "attempts.jsonl").values())
    assert all(one.queries <= 18 and one.guard and one.guard["adapter"] == "base" for one in attempts)
    assert {one.guard["event_id"] for one in attempts} == {None}, "what an evaluation asks must teach nothing"
    prompts = [prompt.text for prompt in load_suite(models.suite("test"))]
    page = (out / "report.html").read_text()
    for place in (said, page, (out / "report.md").read_text()):
        assert not any(text in place for text in prompts)
        assert not any(one.response and one.response in place for one in attempts)
    assert not re.search(r"(src|href)=.?http", page) and "<script" not in page
    assert (out.stat().st_mode & 0o077, (out / "attempts.jsonl").stat().st_mode & 0o077) == (0, 0)

    asked = server.metric("vllm:request_success_total")
    assert evaluated(out, server.url, *few, "--judge", "grammar", "--versus", str(out)) == 0
    assert server.metric("vllm:request_success_total") == asked + 1, "all was known but whether it answers"
    rows = json.loads((out / "report.json").read_text())["changes"]
    assert rows and all(row["before"] == row["after"] and row["gained"] == row["lost"] == 0 for row in rows)
    assert evaluated(out, server.url, *few, "--temperature", "0") == 1
    assert "other settings" in capsys.readouterr().err


@pytest.mark.engine
def test_it_is_asked_behind_known_defences_too(server, tmp_path) -> None:
    out = tmp_path / "eval"
    words = ("--limit", "2", "--attacks", "direct", "--defence", "reminder", "--defence", "best-of:2", "--show", "1")
    assert evaluated(out, server.url, *words) == 0
    found = json.loads((out / "report.json").read_text())
    assert set(found["peers"]) == {"reminder", "best-of:2"}
    assert found["peers"]["best-of:2"]["tokens"]["target_response"] > 1.3 * found["scores"]["tokens"]["target_response"]
    assert all(one.outcome in set(Outcome) for one in read(out / "best-of-2" / "attempts.jsonl").values())


def test_the_attacks_are_listed_with_their_sources(capsys) -> None:
    assert main(["eval", "--list-attacks"]) == 0
    said = capsys.readouterr().out
    assert len(re.findall(r"arXiv:\d{4}\.\d{5}", said)) >= 20 and "pair" in said and "needs attacker" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--attacks", "nonsense"], "there is no attack 'nonsense'"),
        (["--suite", "nonsense"], "neither a file nor a set"),
        (["--judge", "nonsense"], "there is no judge 'nonsense'"),
        (["--defence", "nonsense"], "nonsense"),
        (["--templates", "/nowhere"], "/nowhere cannot be read"),
        (["--pairwise", "judge@http://127.0.0.1:1"], "--pairwise compares with --versus"),
    ],
)
def test_what_does_not_fit_is_a_sentence(words, said, tmp_path, capsys) -> None:
    assert evaluated(tmp_path / "eval", "http://127.0.0.1:1", *words) == 1
    assert said in capsys.readouterr().err


def test_no_key_goes_to_two_hosts(tmp_path, capsys, monkeypatch) -> None:
    judges = ("--judge", "rubric:a@http://127.0.0.1:1/v1", "--judge", "yes-no:b@http://localhost:2/v1")
    monkeypatch.setenv("SIRL_JUDGE_KEY", "the-judges-key")
    assert evaluated(tmp_path / "eval", "http://127.0.0.1:1", *judges) == 1
    said = capsys.readouterr().err
    assert "SIRL_JUDGE_KEY would be sent to 127.0.0.1 and localhost" in said and "the-judges-key" not in said
    monkeypatch.setenv("SIRL_RUBRIC_KEY", "another")
    one_key_one_host([judge_of(spec) for spec in judges[1::2]], None, [])


def test_two_suites_do_not_share_ids_unnoticed(tmp_path, capsys) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(json.dumps({"id": "1", "kind": "benign", "prompt": f"I am {name}"}) + "\n")
    words = ("--suite", str(tmp_path / "a"), "--suite", str(tmp_path / "b"))
    assert evaluated(tmp_path / "eval", "http://127.0.0.1:1", *words) == 1
    assert "two prompts of the suites have the id '1'" in capsys.readouterr().err


def test_evaluations_that_were_made_otherwise_are_not_compared(tmp_path) -> None:
    claim(tmp_path, {"judge": "rules", "temperature": 1.0, "max_tokens": 48, "queries": 20})
    alike(noted(tmp_path), noted(tmp_path), tmp_path)
    with pytest.raises(EvaluationError, match="another judge and another queries"):
        alike(noted(tmp_path), {"judge": "grammar", "temperature": 1.0, "max_tokens": 48, "queries": 5}, tmp_path)


def test_where_nobody_answers_it_says_so(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("online.evaluation.endpoint.RETRIES", 0)
    assert evaluated(tmp_path / "eval", f"http://127.0.0.1:{free_port()}") == 1
    assert "cannot be reached" in capsys.readouterr().err
