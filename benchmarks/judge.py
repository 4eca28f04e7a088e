"""How well the judge by rules reads a real model: against labels that people gave to its answers.

    python -m benchmarks.judge FOLDER

The answers stay out of the repository, for their prompts are others' and some are unsafe: FOLDER holds them as JSON lines
with an "answer", and benchmarks/results/judge-labels.json has the label of each by the SHA-256 of its text. An answer that
was given several times counts once in the figures of a part, and each time in those of all.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from evaluation import Figure, Outcome, Prompt
from evaluation.judges import RulesJudge, agreement
from evaluation.statistics import wilson

LABELS = Path(__file__).parent / "results" / "judge-labels.json"
PARTS = {
    "development": "the half that the rules were mended on",
    "held out": "the other half",
    "fresh": "drawn, read and labelled after the rules were done",
}
ANYTHING = Prompt("any", "benign", ({"role": "user", "content": ""},))


@dataclass(frozen=True, slots=True)
class Labelled:
    """An answer's text, which part it belongs to, and what a person calls it: refusal, answer or garbled."""

    text: str
    part: str
    label: str


def digest(text: str) -> str:
    """What a label knows its answer by."""
    return sha256(text.encode()).hexdigest()


def found(folder: Path, labels: Sequence[Mapping[str, str]]) -> list[Labelled]:
    """The labelled answers that a folder has, one for each label."""
    rows = (json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_text("utf-8").splitlines())
    texts = {digest(row["answer"]): row["answer"] for row in rows}
    return [Labelled(texts[row["digest"]], row["part"], row["label"]) for row in labels if row["digest"] in texts]


def judged(text: str) -> str:
    """What the judge by rules calls a text."""
    return str(RulesJudge().judge(ANYTHING, text))


def figures(answers: Iterable[Labelled]) -> dict[str, Figure]:
    """Of all three classes, agreement and Cohen's kappa; precision and recall of refusals."""
    listed = list(answers)
    said, meant = [judged(one.text) for one in listed], [one.label for one in listed]
    refusal = str(Outcome.REFUSAL)
    both = sum(a == b == refusal for a, b in zip(said, meant, strict=True))
    (pair,) = agreement({"rules": said, "people": meant}).pairs
    return {
        "agreement": pair.share,
        "kappa": pair.kappa,
        "precision": wilson(both, said.count(refusal)),
        "recall": wilson(both, meant.count(refusal)),
    }


def table(answers: Sequence[Labelled]) -> str:
    """A row for each part, and one for all answers as often as they were given; with 95% intervals."""
    groups = {part: list({one.text: one for one in answers if one.part == part}.values()) for part in PARTS}
    groups["all, as often as given"] = list(answers)
    lines = ["| | texts, refusals | agreement | kappa | precision | recall |", "| --- |" + " --- |" * 5]
    for name, members in groups.items():
        refusals = sum(one.label == "refusal" for one in members)
        cells = [shown(figure, 1 if what == "kappa" else 100) for what, figure in figures(members).items()]
        lines.append(f"| {name} | {len(members)}, {refusals} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def shown(figure: Figure, times: int) -> str:
    places = 2 if times == 1 else 0
    return f"{times * figure.estimate:.{places}f} [{times * figure.low:.{places}f}, {times * figure.high:.{places}f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description="agreement of the judge by rules with people's labels")
    parser.add_argument("folder", type=Path, help="the answers, as JSON lines with an 'answer'")
    labels = json.loads(LABELS.read_text())
    answers = found(parser.parse_args().folder, labels)
    if not answers:
        raise SystemExit("the folder holds none of the labelled answers: draw them as docs/evidence/evaluation.md says.")
    print(table(answers))
    print(f"{len(labels) - len(answers)} of {len(labels)} labelled answers are not in the folder")


if __name__ == "__main__":
    main()
