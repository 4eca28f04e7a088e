"""The catalogue is whole, and names what it has."""

from __future__ import annotations

import pytest

from online.fetch.catalogue import CATALOGUE, NAMES, FetchError, find


@pytest.mark.parametrize("published", CATALOGUE, ids=lambda published: published.name)
def test_an_entry_is_whole(published) -> None:
    assert published.licence == "Apache-2.0" and published.name == published.repository.split("/")[1].lower()
    assert len(published.gguf_sha256) == 64 and len(published.revision) == 40
    assert {"<|im_end|>", "<|endoftext|>"} == set(published.ends)
    assert published.gguf_bytes < 2 * published.parameters


def test_parts_are_counted_from_their_bytes() -> None:
    assert [published.parts for published in CATALOGUE] == [6, 22]


def test_an_unknown_name_is_told_the_known_ones() -> None:
    assert find("Qwen2.5-Coder-0.5B-Instruct") is CATALOGUE[0]
    with pytest.raises(FetchError, match=f"'gpt-7'.*{NAMES[0]}, {NAMES[1]}"):
        find("gpt-7")
