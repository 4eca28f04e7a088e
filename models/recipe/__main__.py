"""`python -m models.recipe build | suites`: everything from a fixed seed."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import models
from models.recipe import corpus, store, suites, thinking
from models.recipe.tokenizer import train_tokenizer
from models.recipe.train import EXAMPLES, encode, train


def parser() -> argparse.ArgumentParser:
    """The command line."""
    root = argparse.ArgumentParser(prog="python -m models.recipe", description=__doc__)
    commands = root.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="train a model and store it with its suites (the flipped one has none)")
    kind = build.add_mutually_exclusive_group()
    kind.add_argument("--flipped", action="store_true", help="the control: rigid compliance and wordy refusals")
    kind.add_argument("--thinking", action="store_true", help="the bundled model, taught to think before it answers")
    build.add_argument("--seed", type=int, default=0, help="seed of corpus, weights and order (default 0)")
    build.add_argument("--examples", type=int, default=EXAMPLES, help=f"training conversations (default {EXAMPLES})")
    build.add_argument("--out", type=Path, help="folder to write (default: the bundled model's own)")
    write = commands.add_parser("suites", help="write the suites alone")
    write.add_argument("--out", type=Path, default=Path(models.__file__).parent / models.DEFAULT / "suites")
    return root


def build_thinking(arguments: argparse.Namespace) -> None:
    """The bundled model, some minutes further."""
    count = min(arguments.examples, thinking.EXAMPLES)
    model, tokenizer = store.load(models.bundled())
    model = thinking.teach(model, tokenizer, corpus.corpus(arguments.seed, count, False), arguments.seed)
    store.save(model, tokenizer, arguments.out or Path(models.__file__).parent / models.THINKING)


def build(arguments: argparse.Namespace) -> None:
    """Corpus, tokenizer, weights, files."""
    if arguments.thinking:
        return build_thinking(arguments)
    name = models.FLIPPED if arguments.flipped else models.DEFAULT
    out = arguments.out or Path(models.__file__).parent / name
    started = time.monotonic()
    examples = corpus.corpus(arguments.seed, arguments.examples, arguments.flipped)
    tokenizer = train_tokenizer(examples, arguments.seed)
    data = [encode(example, tokenizer) for example in examples]
    print(
        f"{len(data):,} conversations, {sum(len(item.ids) for item in data):,} tokens, "
        f"{len(tokenizer):,} in the vocabulary; corpus made in {time.monotonic() - started:.0f} s"
    )
    started = time.monotonic()
    model = train(data, tokenizer, arguments.seed)
    print(f"trained in {(time.monotonic() - started) / 60:.1f} minutes, {model.num_parameters():,} parameters")
    store.save(model, tokenizer, out)
    if not arguments.flipped:
        suites.save(out / "suites")
    print(f"stored in {out}")


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command."""
    arguments = parser().parse_args(argv)
    if arguments.command == "build":
        build(arguments)
    else:
        suites.save(arguments.out)


if __name__ == "__main__":
    main()
