"""Where answers begin, read off the bundled model's tokenizer and template."""

from __future__ import annotations

import pytest
from transformers import AutoTokenizer

import models
from guard.calibration import Calibration
from online.calibration.beginnings import beginnings, spelled

USER = [{"role": "user", "content": "How do I bake bread?"}]
BEGUN = [*USER, {"role": "assistant", "content": "Sure"}]


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(models.bundled())


@pytest.fixture(scope="module")
def known(tokenizer):
    return beginnings(tokenizer)


def test_the_header_is_what_the_template_adds(tokenizer, known):
    assert tokenizer.decode(known.header) == "<|im_start|>assistant\n"
    assert {tokenizer.decode([mark]) for mark in known.marks} == {"<|im_start|>", "<|im_end|>"}


@pytest.mark.parametrize(
    ("messages", "options", "moved"),
    [
        (USER, {"add_generation_prompt": True}, False),
        (BEGUN, {"add_generation_prompt": True}, False),
        (USER, {"add_generation_prompt": False}, True),
        (BEGUN, {"continue_final_message": True}, True),
    ],
)
def test_prompts_of_the_template(tokenizer, known, messages, options, moved):
    prompt = tokenizer.apply_chat_template(messages, return_dict=False, **options)
    assert known.moved(prompt, chat=True) is known.moved(prompt, chat=False) is moved


def test_another_template_has_another_header(tokenizer):
    template = "{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}{% if add_generation_prompt %}A: {% endif %}"
    known = beginnings(tokenizer, template)
    assert tokenizer.decode(known.header).strip() == "A:" and len(known.marks) == 1


def test_without_a_usable_template_only_token_classes_are_known(tokenizer):
    known = beginnings(tokenizer, "{{ raise_exception('no') }}")
    assert known.header == () and not known.marks and known.breaks
    assert not known.moved(tokenizer("The oven").input_ids, chat=False)


def test_token_classes(tokenizer, known):
    def of(text: str) -> int:
        return tokenizer(text).input_ids[-1]

    assert of("\n") in known.blank & known.breaks & known.ends
    assert of("Yes.") in known.ends and of("Answer:") in known.breaks - known.ends
    assert of('"') in known.breaks and of("garden") not in known.breaks


def test_openings_know_how_their_first_word_is_written_behind_others(tokenizer):
    openings = spelled(Calibration.load(models.bundled() / "calibration.json").openings, tokenizer)
    (first,) = tokenizer("I").input_ids
    assert {tokenizer.decode([token]) for token in openings.spellings[first]} >= {" I"}
