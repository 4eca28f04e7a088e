"""Beginnings of answers, found in a tokenizer and its chat template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from guard.beginnings import Beginnings
from guard.openings import ROOT, Openings, Tokens
from online.calibration.reasoning import MARKS

ENDS = ".!?…。！？।؟\n"
"""What ends a sentence."""
BREAKS = ENDS + ":;,：；，、\"'`“”‘’«»„([{<>)]}*_#|=~—–-"
"""What an answer may begin anew behind: a demanded beginning ends so, and so does what opens a value of JSON."""
ROLES = ("user", "assistant", "user")
PROBES = ("a", "7?", "of\n")
"""Ends of a user's words that meet what follows them in different tokens."""


def beginnings(
    tokenizer: PreTrainedTokenizerBase, template: str | None = None, arguments: Mapping[str, Any] | None = None
) -> Beginnings:
    """Token classes, header and marks; template: a chat template in place of the tokenizer's own; arguments: what it is
    given beside the messages."""
    vocabulary = tokenizer.get_vocab()
    header, marks = turns(tokenizer, template, arguments)
    texts = written(tokenizer)
    thoughts = {vocabulary[mark] for pair in MARKS for mark in pair if mark in vocabulary}
    blank = frozenset(token for token, text in texts.items() if text and not text.strip()) | thoughts
    behind = {token: text.rstrip(" ")[-1:] for token, text in texts.items()}
    ends = frozenset(token for token, last in behind.items() if last and last in ENDS) | blank | marks
    breaks = frozenset(token for token, last in behind.items() if last and last in BREAKS) | ends
    return Beginnings(header, marks, blank - marks, breaks, ends)


def written(tokenizer: PreTrainedTokenizerBase) -> dict[int, str]:
    """What each token of the vocabulary writes, by id."""
    ids = sorted(set(tokenizer.get_vocab().values()))
    return dict(zip(ids, tokenizer.batch_decode([[token] for token in ids]), strict=True))


def turns(
    tokenizer: PreTrainedTokenizerBase, template: str | None, arguments: Mapping[str, Any] | None = None
) -> tuple[Tokens, frozenset[int]]:
    """(what the template puts before an answer, the added tokens it marks turns with); both empty without a template."""

    def rendered(texts: Sequence[str], *, prompt: bool) -> Tokens:
        messages = [{"role": role, "content": text} for role, text in zip(ROLES, texts, strict=False)]
        own: dict[str, Any] = {**(arguments or {}), **({"chat_template": template} if template else {})}
        own |= {"add_generation_prompt": prompt, "return_dict": False}
        return tuple(tokenizer.apply_chat_template(messages, **own))

    try:
        asked = [rendered([probe], prompt=True) for probe in PROBES]
        added = [len(tokens) - len(rendered([probe], prompt=False)) for tokens, probe in zip(asked, PROBES, strict=True)]
        talk = rendered(PROBES, prompt=True)
    except (TemplateError, ValueError):  # no template, or one that takes no such talk
        return (), frozenset()
    header = common_end(asked)
    special = set(tokenizer.get_added_vocab().values()) - {tokenizer.bos_token_id}
    return header[len(header) - min(added) :] if min(added) > 0 else (), frozenset(special & set(talk))


def common_end(sequences: Sequence[Tokens]) -> Tokens:
    """The longest end that all have."""
    first, count = sequences[0], 0
    while count < min(map(len, sequences)) and len({tokens[-1 - count] for tokens in sequences}) == 1:
        count += 1
    return first[len(first) - count :]


def spelled(openings: Openings, tokenizer: PreTrainedTokenizerBase) -> Openings:
    """The openings with every other token that writes the first word of one: behind other words it begins with a space, in a
    quoted value with a quote."""
    texts = written(tokenizer)
    known: dict[str, list[int]] = {}
    for token, text in texts.items():
        if word := text.lstrip(" \n\t" + BREAKS):
            known.setdefault(word, []).append(token)
    words = {token: texts[token].lstrip() for token, _ in openings.children(ROOT)}
    spellings = {token: tuple(t for t in known.get(word, ()) if t != token) for token, word in words.items()}
    return replace(openings, spellings={token: others for token, others in spellings.items() if others})
