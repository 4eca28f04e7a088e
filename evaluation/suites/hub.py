"""Rows of public sets: fetched from the hub through `datasets`, from their authors' address, or read from a local copy."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from evaluation.suite import SuiteError
from evaluation.suites.public import PublicSet

Placed = Iterator[tuple[str, Any]]
"""Rows, each with the words that name its place."""


def fetched(name: str, public: PublicSet) -> Placed:
    """The rows of a set from where it is kept. Sets on the hub need the extra `eval`, and all a network, though `datasets`
    goes on with what it has cached."""
    mend = f"check the network and the set's terms at {public.url}, or give a local copy as {name}=FILE"
    if public.address is not None:
        try:
            answer = httpx.get(public.address, timeout=60, follow_redirects=True).raise_for_status()
        except httpx.HTTPError as error:
            reason = f"the set {name!r} could not be fetched from {public.address} ({type(error).__name__})"
            raise SuiteError(f"{reason}: {mend}") from None
        yield from parsed(answer.content.decode("utf-8-sig", "replace"), name, public.address.endswith(".csv"))
        return
    try:
        from datasets import load_dataset
        from datasets.exceptions import DatasetsError
    except ImportError:
        raise SuiteError(
            f"the set {name!r} is fetched through `datasets`, which is not installed: "
            f"pip install 'sirl-guard[eval]', or give a local copy as {name}=FILE"
        ) from None
    for config in public.configs:
        try:
            rows = load_dataset(public.hub, config, split=public.split)
        except (OSError, ValueError, RuntimeError, ImportError, DatasetsError) as error:
            reason = f"the set {name!r} could not be fetched from {public.hub} ({type(error).__name__})"
            raise SuiteError(f"{reason}: {mend}") from None
        for number, row in enumerate(rows, 1):
            yield f"{name}, row {number}", dict(row)


def local(path: Path) -> Placed:
    """The rows of a file of JSON lines, one JSON list, or comma-separated values (by its name, .csv)."""
    try:
        written = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SuiteError(f"{path} cannot be read ({error.strerror}): name a file of JSON lines") from None
    except UnicodeDecodeError:
        raise SuiteError(f"{path} is not UTF-8 text: save the set as UTF-8 JSON lines") from None
    yield from parsed(written, str(path), path.suffix.lower() == ".csv")


def parsed(written: str, source: str, as_csv: bool) -> Placed:
    """The rows of a text."""
    if as_csv:
        for number, row in enumerate(csv.DictReader(io.StringIO(written, newline="")), 1):
            yield f"{source}, row {number}", row
    elif written.lstrip().startswith("["):
        try:
            listed = json.loads(written)
        except json.JSONDecodeError as error:
            raise SuiteError(f"{source} is not a JSON list ({error.msg}): write one, or JSON lines") from None
        for number, row in enumerate(listed, 1):
            yield f"{source}, entry {number}", row
    else:
        for number, line in enumerate(written.split("\n"), 1):
            if line.strip():
                where = f"{source}, line {number}"
                try:
                    yield where, json.loads(line)
                except json.JSONDecodeError as error:
                    raise SuiteError(f"{where} is not JSON ({error.msg}): write one JSON object on each line") from None
