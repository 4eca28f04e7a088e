from tests.docs.sentences import sentences, words

PAGE = """# A heading of so many words

It is so. Is it *so*: yes, `a.b; c`; [a link](there.md) too.
It goes on

- an item
  of two lines (see there). Done.

| a | table. |

```bash
no prose. here
```
"""


def test_prose_is_cut_into_sentences():
    assert sentences(PAGE) == [
        "It is so.",
        "Is it so:",
        "yes, code;",
        "a link too.",
        "It goes on",
        "an item of two lines (see there).",
        "Done.",
    ]


def test_figures_are_no_words():
    assert words("from 44 to 47% of T=1, -9999.0 nats") == 5
