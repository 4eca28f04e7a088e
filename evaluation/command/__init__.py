"""`sirl eval`: attacks, harmless prompts and tasks on any endpoint, and a report of the outcomes."""

import asyncio
from collections.abc import Mapping, Sequence

from evaluation.attacks import ATTACKS, Attack
from evaluation.command.evaluation import Evaluation
from evaluation.command.flags import parser
from evaluation.command.results import report


def main(argv: Sequence[str]) -> int:
    """One evaluation from flags to report; raises SirlError, in one sentence, where it cannot be."""
    args = parser().parse_args(argv)
    if args.list_attacks:
        print("\n".join(listed(ATTACKS)))
        return 0
    evaluation = Evaluation.of(args)
    report(evaluation, asyncio.run(evaluation.run()))
    return 0


def listed(attacks: Mapping[str, Attack]) -> list[str]:
    """An attack in two lines: what it does and needs, and where it is from."""
    lines = []
    for attack in attacks.values():
        needs = f" (needs {', '.join(sorted(attack.needs))})" if attack.needs else ""
        lines += [f"{attack.name:20} {attack.about}{needs}", f"{'':20} {attack.source}"]
    return lines
