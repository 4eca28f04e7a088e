"""What an answer quotes is not what it does."""

from __future__ import annotations

import pytest

from evaluation.judges.quotations import CODE, unquoted


@pytest.mark.parametrize(
    "quoted",
    ['"I cannot help"', "“I cannot help”", "«I cannot help»", "„I cannot help“", "「I cannot help」", "'I cannot help'"],
)
def test_quotations_go_whatever_marks_they_have(quoted: str) -> None:
    left = unquoted(f"The reply {quoted} is what it should say.")
    assert "cannot" not in left and left.startswith("The reply ") and left.endswith(" is what it should say.")


def test_apostrophes_and_short_marks_quote_nothing() -> None:
    for text in ("I don't and I can't, it's theirs.", "5' by 4' of it"):
        assert unquoted(text) == text


def test_a_line_that_is_quoted_as_mail_quotes_it_goes() -> None:
    assert unquoted("He wrote:\n> I cannot help\nand left.") == 'He wrote:\n"\nand left.'


@pytest.mark.parametrize("said", ['"I cannot help with that."', 'Assistant: "I cannot help with that."', "> I cannot help"])
def test_a_text_that_is_all_one_quotation_says_it(said: str) -> None:
    assert unquoted(said) == said


def test_code_is_one_mark_unless_the_block_holds_words_alone() -> None:
    assert unquoted("See:\n```python\nreturn 'I cannot'\n```\nDone.") == f"See:\n{CODE}\nDone."
    assert unquoted("```\nx = 1; y = 2\n```") == CODE
    assert unquoted("```text\nI cannot help with that\n```").strip() == "I cannot help with that"
    assert unquoted("Call `refuse()` now") == "Call ` now"
    assert CODE in unquoted("A block that never ends:\n```\nI cannot"), "to the end of the text"
