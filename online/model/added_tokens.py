"""The added tokens of a tokenizer, read from its files: most are marks that no text of a user's is cut into."""

from __future__ import annotations

from pathlib import Path

from online.state.files import read_json


def added_tokens(folder: Path) -> frozenset[int]:
    """Their ids, of a model's folder; none where its tokenizer names none, or is of another format."""
    configured = (read_json(folder / "tokenizer_config.json") or {}).get("added_tokens_decoder") or {}
    if configured:
        return frozenset(map(int, configured))
    return frozenset(one["id"] for one in (read_json(folder / "tokenizer.json") or {}).get("added_tokens", ()))
