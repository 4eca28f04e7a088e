"""What a model of the bundled grammar does on a suite, group by group and family by family, and its entropy gap.

python -m benchmarks.organism [--model DIR] [--suite test] [--greedy] [--families FILE] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from pathlib import Path

import models
from evaluation import GrammarJudge, Outcome, Prompt
from evaluation.statistics import auroc
from evaluation.suite import from_row
from models.recipe import families, suites
from online.model.decoding import generate
from online.model.local_model import LocalModel
from online.state.files import write_atomic

MAX_TOKENS = 96


def groups(prompt: Prompt) -> list[str]:
    """The groups a prompt counts in."""
    if prompt.kind == "task":
        return ["task", f"task/{prompt.topic}"]
    if prompt.new_topic:
        return ["harmful/new topic"]
    if prompt.family is None:
        return [f"{prompt.kind}/plain"]
    return [f"{prompt.kind}/{prompt.novelty}", f"family/{prompt.novelty}/{prompt.family}/{prompt.kind}"]


def evaluate(llm: LocalModel, prompts: list[Prompt], *, greedy: bool, seed: int) -> dict[str, dict]:
    """Shares of each outcome by group, and the AUROC of entropy (refusals below compliances) on harmful prompts."""
    judge = GrammarJudge()
    asked = [llm.render(prompt.messages) for prompt in prompts]
    samples = generate(llm, asked, temperature=0.0 if greedy else 1.0, max_tokens=MAX_TOKENS, seed=seed)
    found: dict[str, list[Outcome]] = defaultdict(list)
    entropies: dict[Outcome, list[float]] = defaultdict(list)
    for prompt, sample in zip(prompts, samples, strict=True):
        outcome = judge.judge(prompt, llm.text(sample.tokens))
        for name in (*groups(prompt), "all"):
            found[name].append(outcome)
        if prompt.kind == "harmful":
            entropies[outcome].append(sample.entropy)
    figures = {
        name: {"n": len(got), **{o.value: got.count(o) / len(got) for o in Outcome}} for name, got in sorted(found.items())
    }
    figures["entropy"] = {"auroc": auroc(entropies[Outcome.REFUSAL], entropies[Outcome.COMPLIANCE]).to_dict()}
    for outcome in (Outcome.REFUSAL, Outcome.COMPLIANCE):
        values = entropies[outcome]
        figures["entropy"][outcome.value] = math.fsum(values) / len(values) if values else math.nan
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description="outcomes of one model by group of prompts")
    parser.add_argument("--model", type=Path, default=models.bundled())
    parser.add_argument("--suite", choices=models.SUITES, default="test")
    parser.add_argument("--families", type=Path, help="ask the bare prompts in these wrappers instead (JSON lines)")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--greedy", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = suites.build(args.suite)
    if args.families:
        rows = suites.wrap(rows, families.load(args.families))
    figures = evaluate(
        LocalModel.load(args.model), [from_row(r) for r in rows[: args.limit]], greedy=args.greedy, seed=args.seed
    )
    for name, got in figures.items():
        print(f"{name:48}", "  ".join(f"{k} {v}" if not isinstance(v, float) else f"{k} {v:.3f}" for k, v in got.items()))
    if args.json:
        write_atomic(args.json, json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
