"""Bodies: our words are taken out, and all else is passed on or left for vLLM to refuse."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.request.body import ours
from serving.request.offered_models import OfferedModels
from tests.serving.request.edge import call


def test_our_options_are_taken_out_and_the_length_is_right():
    status, _, seen = call(b'{"model": "m", "guard": {"trace": true}, "n": 1}')
    body, headers, request = seen[0]
    assert status == 200 and json.loads(body) == {"model": "m", "n": 1}
    assert int(headers[b"content-length"]) == len(body) and request.options.trace


def test_a_body_without_our_words_is_passed_on_byte_by_byte():
    raw = '{ "model" :"m",\n"x":1e3, "é":[1.10]}'.encode()
    assert call(raw)[2][0][0] == raw


@pytest.mark.parametrize("raw", [b"", b"\xff\xfe", b'{"guard": ', b'["guard"]', b'"guard"', b"[" * 5000 + b'"guard"'])
def test_hostile_bodies_are_vllms_to_refuse(raw):
    status, _, seen = call(raw)
    assert status == 200 and seen[0][0] == raw


MEMBERS = st.fixed_dictionaries(
    {},
    optional={
        "store": st.sampled_from([False, True, "false", 0, "off", None]),
        "use_beam_search": st.booleans(),
        "model": st.sampled_from(["m", "m@base", "m@v3"]),
        "guard": st.just({"trace": True}),
        "prompt": st.text(max_size=20),
    },
)
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]


def escaped(text: str, which: list[bool]) -> str:
    """The same JSON with some of the letters in it written as escapes, which only strings may have."""
    inside, out, flags = False, [], iter(which)
    for at, letter in enumerate(text):
        if letter == '"' and text[at - 1] != "\\":
            inside = not inside
        named = inside and letter in "guardstoreusebeam_@v3" and text[max(0, at - 6) : at].count("\\") == 0
        out.append(f"\\u{ord(letter):04x}" if named and next(flags, False) else letter)
    return "".join(out)


@given(MEMBERS, st.sampled_from(ENCODINGS), st.lists(st.booleans(), max_size=60), st.booleans())
def test_a_body_is_read_as_the_server_reads_it(members, encoding, which, ascii_only):
    """In every encoding that its JSON parser takes, escaped or not: what is ours in it is never missed."""
    body = escaped(json.dumps(members, ensure_ascii=ascii_only), which).encode(encoding)
    read = json.loads(body)  # as the server does
    assert read == members
    _, _, seen = call(body, offers=lambda: OfferedModels(("m",), "v3"), headers=[(b"x-sirl-internal", b"k" * 64)])
    inner, _, request = seen[0]
    assert request.store is (members.get("store") not in (False, "false", 0, "off"))
    assert request.beam_search is members.get("use_beam_search", False)
    assert request.adapter == {"m@base": "base", "m@v3": "v3"}.get(members.get("model"))
    assert request.options.trace is ("guard" in members)
    assert json.loads(inner) == {name: value for name, value in members.items() if name != "guard"}


def test_the_last_of_two_members_counts_as_for_the_server():
    body = b'{"use_beam_search": false, "store": true, "use_beam_search": true, "store": false}'
    request = call(body)[2][0][2]
    assert request.beam_search and not request.store and ours(b'{"prompt": "x"}') is None


def test_an_error_is_no_longer_than_a_sentence():
    status, body, _ = call(b'{"guard": {"' + b"x" * 50_000 + b'": 1}}')
    assert status == 400 and len(body) < 500 and json.loads(body)["error"]["message"].startswith("guard.xxx")


def test_beams_are_known_wherever_they_may_be_drawn():
    for path, beams in (
        ("/invocations", True),
        ("/v1/completions", True),
        ("/v1/responses", False),
        ("/v1/messages", False),
    ):
        assert call(b'{"use_beam_search": true}', path=path)[2][0][2].beam_search is beams
