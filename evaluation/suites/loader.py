"""The loader: a name, a local copy or a path -> prompts."""

from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random
from typing import Any

from evaluation.suite import Prompt, SuiteError, load_suite
from evaluation.suites.collected import from_collected, is_collected
from evaluation.suites.hub import fetched, local
from evaluation.suites.public import SETS
from evaluation.suites.rows import Row, RowError


def load(name_or_path: str | Path, limit: int | None = None, seed: int = 0) -> list[Prompt]:
    """Prompts of a suite; with a limit, so many drawn by the seed, in the suite's order.

    A name of SETS is fetched; `name=FILE` reads a local copy of that set, in its own columns, as JSON lines, a JSON list or
    CSV; any other text is a path to JSON lines in our form (`load_suite`) or of collected prompts. Raises SuiteError.
    """
    if limit is not None and limit < 1:
        raise SuiteError(f"a limit of {limit} leaves no prompt: give one of 1 and more, or none")
    wanted = str(name_or_path)
    name, equals, path = wanted.partition("=")
    if equals and name in SETS:
        prompts = _prompts(local(Path(path)), SETS[name].row, name)
    elif wanted in SETS:
        prompts = _prompts(fetched(wanted, SETS[wanted]), SETS[wanted].row, wanted)
    elif not Path(wanted).is_file():
        raise SuiteError(f"{wanted!r} is neither a file nor a set: name a file, or one of {', '.join(SETS)}")
    elif is_collected(next((row for _, row in local(Path(wanted))), None)):
        prompts = _prompts(local(Path(wanted)), from_collected, Path(wanted).stem)
    else:
        prompts = load_suite(wanted)
    if not prompts:
        raise SuiteError(f"{wanted} holds no prompt: name a file or a set that has some")
    if limit is None or limit >= len(prompts):
        return prompts
    return [prompts[index] for index in sorted(Random(seed).sample(range(len(prompts)), limit))]


def _prompts(rows: Iterable[tuple[str, Any]], read: Callable[[Row, str], Prompt | None], name: str) -> list[Prompt]:
    """Prompts of rows, each text once. A row that is none is left out."""
    prompts: dict[tuple[str, ...], Prompt] = {}
    ids: set[str] = set()
    for number, (where, row) in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise SuiteError(f"{where} is not a JSON object: give the set as it is published")
        try:
            prompt = read(row, f"{name}-{number}")
        except RowError as error:
            raise SuiteError(f"{where} {error}: give the set {name!r} with the columns it is published with") from None
        if prompt is None or (said := (prompt.text, *prompt.turns)) in prompts:
            continue
        if prompt.id in ids:
            raise SuiteError(f"{where} repeats the id {prompt.id!r}: give each row its own")
        ids.add(prompt.id)
        prompts[said] = prompt
    return list(prompts.values())
