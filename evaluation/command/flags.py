"""The flags of `sirl eval`."""

import argparse
from pathlib import Path

from evaluation.judges import FORMS
from evaluation.peers import PEERS
from evaluation.suites import SETS

ABOUT = "Attack an endpoint, ask it harmless things and tasks, and say what came of it. Ours or any other."
PEERS_OF = ", ".join(peer.form for peer in PEERS.values())


def count(text: str) -> int:
    """A number from 1 up."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{number} is too few: give 1 or more")
    return number


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sirl eval", description=ABOUT, allow_abbrev=False)
    add = parser.add_argument_group("who is asked").add_argument
    add("--url", default="http://127.0.0.1:8000/v1", help="where it answers (default: %(default)s)")
    add("--model", help="the model to ask for (default: the first one it serves)")
    add("--key", default="OPENAI_API_KEY", metavar="NAME", help="environment variable with its key (default: %(default)s)")
    add("--versus", metavar="MODEL[@URL]|DIR", help="compare it with another model, or with an earlier evaluation's folder")
    add("--defence", action="append", default=[], metavar="SPEC", help=f"ask it behind a known defence too: {PEERS_OF}")
    add("--attacker", metavar="MODEL@URL", help="a model that writes attacks, for PAIR and TAP")
    add("--translator", metavar="MODEL@URL", help="a model that translates")

    add = parser.add_argument_group("what is asked").add_argument
    add("--suite", action="append", default=[], metavar="NAME|FILE", help=f"{', '.join(SETS)}, NAME=FILE or FILE "
        "(default: the bundled model's test suite)")  # fmt: skip
    add("--limit", type=count, default=50, help="prompts of each class, drawn by lot (default: %(default)s)")
    add("--attacks", default="all", metavar="NAMES", help="with commas between (default: all that can be made here)")
    add("--list-attacks", action="store_true", help="list the attacks, what they need and where they are from")
    add("--templates", type=Path, metavar="FILE", help="attacks of your own, as JSON lines")
    add("--queries", type=count, default=20, help="at most, for one goal and attack (default: %(default)s)")
    add("--seeds", type=int, nargs="+", default=[0], help="repetitions (default: 0)")
    add("--temperature", type=float, default=1.0, help="default: %(default)s")
    add("--max-tokens", type=count, default=512, help="of a response (default: %(default)s)")
    add("--minutes", type=float, help="begin nothing new after so many")
    add("--at-once", type=count, default=8, help="requests under way at the same time (default: %(default)s)")

    add = parser.add_argument_group("what comes of it").add_argument
    add("--judge", action="append", default=[], metavar="SPEC", help="of several the first decides: "
        f"{', '.join(FORMS.values())} (default: rules; of the bundled suite grammar)")  # fmt: skip
    add(
        "--pairwise",
        metavar="MODEL@URL",
        help="a model that says whose replies are better: ours, or the other one's or the suite's",
    )
    add("--lm-eval", metavar="TASKS", help="tasks of lm-eval too, with commas between (needs the extra lm-eval)")
    add("--label", type=Path, metavar="FILE", help="write what was answered here, for people to label (unsafe text)")
    add("--out", type=Path, default=Path("sirl-eval"), help="folder for all of it, where a run that was cut off goes on "
        "(default: %(default)s)")  # fmt: skip
    add("--json", type=Path, metavar="FILE", help="the figures here too")
    add("--markdown", type=Path, metavar="FILE", help="the tables, for a pull request, here too")
    add("--show", type=int, default=0, metavar="N", help="print N compliances with their prompts: unsafe text")
    return parser
