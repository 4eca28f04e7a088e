"""Labels by people: JSON lines that a person fills in, read back by prompt id and the digest of the response."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from evaluation.judge import JudgeError, Outcome
from evaluation.suite import Prompt

_CHOICES = ", ".join(Outcome)


def digest(response: str) -> str:
    """SHA-256 of a response's UTF-8 bytes, in hexadecimal."""
    return hashlib.sha256(response.encode("utf-8", "surrogatepass")).hexdigest()


class HumanJudge:
    """Outcomes that a person wrote into a file of `unlabelled`: rows with `id`, `response_sha256` and `outcome`.

    Rows whose outcome is still null are not labels yet. Raises JudgeError for a response that has none.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.labels = _labels(self.path)

    def judge(self, prompt: Prompt, response: str) -> Outcome:
        """The outcome that the person gave this response to this prompt."""
        try:
            return self.labels[prompt.id, digest(response)]
        except KeyError:
            raise JudgeError(f"{self.path} has no label for this response to {prompt.id}: have it labelled first") from None


def unlabelled(rows: Iterable[tuple[Prompt, str]], path: str | Path) -> int:
    """Writes (prompt, response) pairs for people to label, each once, and returns how many. An outcome is one of `Outcome`.

    Prompts and responses stand in that file as they are: treat it as unsafe content.
    """
    seen: set[tuple[str, str]] = set()
    with Path(path).open("w", encoding="utf-8") as file:
        for prompt, response in rows:
            key = (prompt.id, digest(response))
            if key in seen:
                continue
            seen.add(key)
            row = {"id": key[0], "kind": prompt.kind, "outcome": None, "prompt": prompt.text, "response": response}
            file.write(json.dumps(row | {"response_sha256": key[1]}, ensure_ascii=False) + "\n")
    return len(seen)


def _labels(path: Path) -> dict[tuple[str, str], Outcome]:
    labels: dict[tuple[str, str], Outcome] = {}
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise JudgeError(f"{path} cannot be read ({error.strerror}): name a file of labels as JSON lines") from None
    except UnicodeDecodeError:
        raise JudgeError(f"{path} is not UTF-8 text: save the labels as UTF-8 JSON lines") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        key, outcome = _label(line, f"{path}, line {number}")
        if outcome is None:
            continue
        if labels.get(key, outcome) is not outcome:
            raise JudgeError(f"{path}, line {number} labels a response anew and otherwise: keep one label for each")
        labels[key] = outcome
    if not labels:
        raise JudgeError(f"{path} holds no label: write one of {_CHOICES} as the outcome of each row")
    return labels


def _label(line: str, where: str) -> tuple[tuple[str, str], Outcome | None]:
    try:
        row: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise JudgeError(f"{where} is not JSON ({error.msg}): write one JSON object on each line") from None
    if not isinstance(row, dict) or not isinstance(row.get("id"), str) or not isinstance(row.get("response_sha256"), str):
        raise JudgeError(f"{where} has no 'id' and 'response_sha256': keep both as they were written")
    said = row.get("outcome")
    if said is not None and said not in list(Outcome):
        raise JudgeError(f"{where} has the outcome {said!r}: use one of {_CHOICES}")
    return (row["id"], row["response_sha256"].lower()), None if said is None else Outcome(said)
