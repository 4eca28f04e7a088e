"""Each kind of instruction has a text that follows it and one that does not."""

import subprocess
import sys

import pytest

from evaluation.utility import Tally, followed
from evaluation.utility.instructions import KINDS, sentences

CASES = [
    ("keywords:existence", {"keywords": ["wax", "seal"]}, "Seals of waxen make.", "A waxen stamp."),
    ("keywords:frequency", {"keyword": "wax", "frequency": 2, "relation": "at least"}, "Wax, waxes!", "wax, or honey"),
    ("keywords:frequency", {"keyword": "wax", "frequency": 2, "relation": "less than"}, "wax", "wax wax"),
    ("keywords:forbidden_words", {"forbidden_words": ["wax"]}, "waxen", "the Wax"),
    ("keywords:letter_frequency", {"letter": "a", "let_frequency": 3, "let_relation": "at least"}, "Banana", "Bana"),
    ("length_constraints:number_sentences", {"num_sentences": 2, "relation": "at least"}, "One. Two!", "One, two."),
    ("length_constraints:number_words", {"num_words": 3, "relation": "less than"}, "now stop", "don't stop"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "One\n***\nTwo", "One\n\nTwo"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "***One *** Two***\n", "One\n******\nTwo"),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "two"},
        "One\n\n'Two's here",
        "One\n\nHere is two",
    ),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "two"},
        "One\n\nTWO, here\n\n",
        "One\n\n**Two** is here",
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[name], [town]", "[name]"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye. **P.S.** Come!", "Tips and tricks"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye.\nP.P.S. Come!", "Bye.\nPS: Come!"),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "Bye.\nP.P.S. Come!", "Bye. P.S. Come!"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n- b", "* a\n* b\n* c"),
    ("detectable_format:constrained_response", {}, "My answer is yes.", "Yes."),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* and **b c**", "*a* and ** **"),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "* **a**", "**a**"),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "Section", "num_sections": 2},
        "1. Section 1\na\n**Section2**\nb",
        "Section 1\na\nSECTION 2",
    ),
    ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', "{a: 1}"),
    ("detectable_format:title", {}, "<<A title>>\ntext", "<< >> text"),
    ("combination:two_responses", {}, "One\n******\nTwo", "One\n******\nOne"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say it."}, "say it. It is so.", "It is so. Say it."),
    ("startend:end_checker", {"end_phrase": "That is all."}, 'Well. "That is all."', "That is all. Bye."),
    ("startend:quotation", {}, '"All of it"', "“All of it”"),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "at least"},
        "DON'T ever",
        "STATE-OF-THE-ART or Never",
    ),
    ("change_case:english_capital", {}, "ALL OF THAT IS HERE, 3", "ALL of it"),
    ("change_case:english_lowercase", {}, "all of that is here", "das ist alles, was wir haben"),
    ("language:response_language", {"language": "de"}, "Das ist alles, was wir haben.", "That is all that we have."),
    ("punctuation:no_comma", {}, "first and then", "first, then"),
]


@pytest.mark.parametrize(("kind", "keywords", "follows", "breaks"), CASES)
def test_kinds(kind, keywords, follows, breaks):
    assert followed(follows, [{"id": kind, **keywords}]) == Tally((kind,), (), ())
    assert followed(breaks, [{"id": kind, **keywords}]) == Tally((), (kind,), ())


def test_every_kind_has_a_case():
    assert {case[0] for case in CASES} == KINDS.keys()


def test_what_is_not_known_is_not_checked_and_never_right():
    unknown = {"id": "language:of_thought", "language": "de"}
    assert followed("Hallo", [unknown]) == Tally((), (), ("language:of_thought",))
    assert followed("Hallo", [unknown]).right is None
    assert followed("Hallo", [unknown, {"id": "punctuation:no_comma"}]).right is None
    assert followed("Ja, hallo", [unknown, {"id": "punctuation:no_comma"}]).right is False
    assert followed("Hallo", [{"id": "punctuation:no_comma"}]).right is True
    assert followed("Hallo", []).right is None


def test_keywords_that_are_missing_or_of_no_use_are_not_checked():
    for keywords in ({}, {"num_words": "many", "relation": "at least"}, {"num_words": 1, "relation": "about"}):
        assert followed("word", [{"id": "length_constraints:number_words", **keywords}]).unchecked


def test_json_that_is_deeper_than_can_be_read_is_none():
    assert followed("[" * 100_000, [{"id": "detectable_format:json_format"}]).right is False


def test_languages_are_told_by_many_at_once():
    """In an interpreter of its own, where the detector was not asked before."""
    code = (
        "from concurrent.futures import ThreadPoolExecutor as Pool; from evaluation.utility import followed\n"
        "german = [{'id': 'language:response_language', 'language': 'de'}]\n"
        "found = list(Pool(8).map(lambda text: followed(text, german).right, ['Das ist alles, was wir haben.'] * 8))\n"
        "assert all(found), found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_empty_response_follows_nothing():
    assert followed(" ", [{"id": "punctuation:no_comma"}]).right is False


def test_sentences():
    assert len(sentences('He said "no." She left! Why?\nNobody knows')) == 4
    for text, many in (
        ("It began in 1995. Then it ended. So did I. No. Fine.", 5),
        ("The U.S. is big. J.R.R. Tolkien... was he there? At Acme Inc. in Ohio.", 3),
        ("1. One.\n2. Two.", 4),
    ):
        assert len(sentences(text)) == many, sentences(text)
    assert sentences("Dr. Smith met Mr. X. in St. James.\nA title\nFine.") == [
        "Dr. Smith met Mr. X. in St. James.",
        "A title\nFine.",
    ]
