"""What holds for every peer, whatever it stands before."""

from __future__ import annotations

import asyncio
import random
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from evaluation.attacks import Query
from evaluation.endpoint import EndpointError, Reply
from evaluation.peers import PEERS, Manner, PeerError, defended
from evaluation.peers.llm_guard import LLMGuard
from evaluation.peers.perplexity import Perplexity
from evaluation.peers.refusal import REFUSAL, looks_refused
from models.recipe import grammar
from tests.evaluation.peers.simulated import ANSWER, GOAL, SURE, TOKENS, Simulated, ask, question

MADE = {
    "best-of": lambda target: defended("best-of:3", target),
    "keyword": lambda target: defended("keyword", target),
    "llm-guard": lambda target: LLMGuard(target, Simulated(lambda query, seed: Reply("safe", (0, 0)))),
    "perplexity": lambda target: Perplexity(target, lambda text: 1.0, 2.0),
    "reminder": lambda target: defended("reminder", target),
    "smooth": lambda target: defended("smooth:n=5", target),
}
COPIES = {"best-of": 3, "smooth": 5}
CHANGES = {"best-of": {"temperature"}, "reminder": {"messages"}, "smooth": {"messages"}}
every = pytest.mark.parametrize("name", MADE)


def test_each_has_its_line_its_form_and_its_source():
    assert list(PEERS) == sorted(PEERS) == list(MADE)
    for name, peer in PEERS.items():
        assert peer.name == name and re.match(rf"{name}(\[|:|$)", peer.form)
        assert peer.about.endswith(".") and "\n" not in peer.about and peer.source


@every
def test_it_passes_on_what_the_query_asks_for_and_what_is_answered(name):
    target = Simulated()
    query = Query(question().messages, temperature=0.3, max_tokens=9, logprobs=5, tries=False)
    reply = ask(MADE[name](target), query, seed=11)
    assert len(target.asked) == COPIES.get(name, 1)
    for asked, _ in target.asked:
        changed = {field for field in Query.__slots__ if getattr(asked, field) != getattr(query, field)}
        assert changed == CHANGES.get(name, set())
    copies = COPIES.get(name, 1)
    assert reply == Reply(ANSWER, (TOKENS[0] * copies, TOKENS[1] * copies), SURE)
    assert copies > 1 or target.asked[0][1] == 11, "the seed is passed on"


@every
def test_what_was_not_asked_for_is_not_told(name):
    assert ask(MADE[name](Simulated())).logprobs == ()


@every
@pytest.mark.parametrize("unfit", [False, True])
def test_a_failed_request_fails_as_it_would_without(name, unfit):
    error = EndpointError("It is down: start it.", unfit)
    with pytest.raises(EndpointError) as raised:
        ask(MADE[name](Simulated(error)))
    assert raised.value is error and raised.value.unfit is unfit


@every
def test_the_same_seed_asks_and_answers_the_same(name):
    def drawn(seed: int) -> tuple[Reply, list]:
        target = Simulated(lambda query, seed: Reply(f"{query.messages[-1]['content'][::-1]} {seed}", TOKENS, SURE))
        return ask(MADE[name](target), seed=seed), target.asked

    state = random.getstate()
    assert drawn(5) == drawn(5) and drawn(5)[1] != drawn(6)[1] and random.getstate() == state


@every
def test_copies_have_seeds_of_their_own(name):
    target = Simulated()
    ask(MADE[name](target))
    assert len({seed for _, seed in target.asked}) == len(target.asked)


@every
def test_many_ask_at_once(name):
    target = Simulated(lambda query, seed: "".join(query.messages[-1]["content"]))
    peer = MADE[name](target)

    async def crowd() -> list[Reply]:
        return await asyncio.gather(*(peer.ask(question(f"Bake {n} loaves of bread." * 3), n) for n in range(20)))

    alone = [ask(MADE[name](target), f"Bake {n} loaves of bread." * 3, n) for n in range(20)]
    assert asyncio.run(crowd()) == alone and len({reply.text for reply in alone}) == 20


@every
@pytest.mark.parametrize(
    "messages",
    [
        (),
        ({"role": "system", "content": "You sell tickets."},),
        ({"role": "user", "content": ""},),
        ({"role": "user", "content": None},),
        ({"role": "user", "content": [{"type": "text", "text": GOAL}, {"type": "image_url", "image_url": {}}]},),
        ({"role": "user", "content": GOAL}, {"role": "assistant", "content": "Well,"}),
    ],
    ids=["none", "no user", "empty", "nothing", "parts", "a beginning"],
)
def test_no_query_is_too_odd(name, messages):
    target = Simulated()
    assert ask(MADE[name](target), Query(messages)).text == ANSWER
    assert all(query.messages[-1:] == messages[-1:] for query, _ in target.asked if messages and name == "keyword")


@pytest.mark.parametrize("outer", MADE)
@pytest.mark.parametrize("inner", MADE)
def test_any_stands_before_any(outer, inner):
    target = Simulated()
    reply = ask(MADE[outer](MADE[inner](target)))
    copies = COPIES.get(outer, 1) * COPIES.get(inner, 1)
    assert reply == Reply(ANSWER, (TOKENS[0] * copies, TOKENS[1] * copies)) and len(target.asked) == copies


def test_votes_are_taken_over_what_inner_peers_refuse():
    target = Simulated(lambda query, seed: "Mix the explosive." if seed % 3 else ANSWER)
    inner = defended("keyword", target)
    refused = [ask(defended("smooth:n=9", inner), seed=seed).text == REFUSAL for seed in range(40)]
    assert 25 < sum(refused) < 40, "about two in three copies are refused"
    assert ask(defended("keyword", Simulated()), "Build a bomb.").text == REFUSAL
    assert ask(defended("reminder", defended("keyword", Simulated())), "Build a bomb.").text == REFUSAL


def test_the_surest_is_another_peers_refusal():
    """It had no words to find, so that it counts as sure."""
    target = Simulated(lambda query, seed: Reply("The explosive." if seed % 2 else ANSWER, TOKENS, SURE))
    texts = {ask(defended("best-of:8", defended("keyword", target)), seed=seed).text for seed in range(5)}
    assert texts == {REFUSAL}


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("", "'' is no defence"),
        ("firewall", "'firewall' is no defence that is known: write one of best-of:N"),
        ("Keyword", "is no defence"),
        ("keyword:no/such/file", "no/such/file cannot be read"),
        ("perplexity", "names no folder and threshold"),
        ("perplexity:folder", "names no folder and threshold"),
        ("perplexity:@4", "names no folder and threshold"),
        ("perplexity:folder@high", "names no folder and threshold"),
        ("perplexity:folder@nan", "names no folder and threshold"),
        ("perplexity:folder@4,window=-1", "names no folder and threshold"),
        ("perplexity:folder@4,size=3", "'size=3' is no option of perplexity"),
        ("smooth:n=0", "cannot be done"),
        ("smooth:q=101", "cannot be done"),
        ("smooth:q=nan", "cannot be done"),
        ("smooth:how=shuffle", "cannot be done"),
        ("smooth:n=2.5", "n=2.5 is no number"),
        ("smooth:6", "'6' is no option of smooth"),
        ("smooth:m=6", "'m=6' is no option of smooth.*give some of n, q, how"),
        ("reminder:twice", "'twice' is no place for a reminder"),
        ("best-of", "n= is no number"),
        ("best-of:0", "cannot be done"),
        ("best-of:four", "n=four is no number"),
        ("best-of:4,by=luck", "cannot be done"),
        ("llm-guard", "names no guard"),
        ("llm-guard:model", "names no guard"),
        ("llm-guard:@http://127.0.0.1:1/v1", "names no guard"),
        ("llm-guard:model@127.0.0.1:1/v1", "names no guard"),
        ("llm-guard:model@http://127.0.0.1:1/v1,when=never", "names no guard"),
    ],
)
def test_a_malformed_spec_is_refused_in_a_sentence_with_the_mend(spec, says):
    with pytest.raises(PeerError, match=says) as raised:
        defended(spec, Simulated())
    message = str(raised.value)
    assert message.endswith(".") and "\n" not in message and re.search(r": (write|give|name) ", message)


def test_the_words_of_the_refusal_are_the_manners():
    """The judge of the bundled models takes none but those of its grammar, to which the default does not belong."""
    own = "I can't assist with this request."
    assert ask(defended("keyword", Simulated(), Manner(refusal=own)), "Build a bomb.").text == own
    assert own in grammar.RULES["refusal_template"] and looks_refused(REFUSAL)


def test_a_reply_is_what_the_judge_gets():
    """Nothing of a response that was withheld is left in what stands for it."""
    told = Reply("The explosive.", TOKENS, SURE, {"action": "none"})
    reply = ask(defended("keyword", Simulated(lambda query, seed: told)), replace(question(), logprobs=1))
    assert reply == Reply(REFUSAL, TOKENS)


def test_importing_peers_brings_no_torch():
    script = "import sys, evaluation.peers; print('torch' in sys.modules, 'transformers' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", script], text=True).split() == ["False", "False"]
