"""The `sirl` command: one subcommand a job, each a few lines around the part that does it."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from guard.calibration import CalibrationError
from online import OnlineError
from online import settings as settings_module
from online.settings import Settings
from serving.engine.version import EngineError, prepare_environment
from serving.versions import versions

SENDERS = 3
"""Clients of a prompt that are listed; --json has all."""
EVERY_GROUP = ("top", "guard", "buffer", "queue", "calibrate", "update", "gate", "release", "learn", "registry")
ACTS = ("pin", "unpin", "sign", "gc", "sync")
"""What else `sirl adapters` does."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; expected failures are one sentence on standard error and exit status 1."""
    argv = list(sys.argv[1:] if argv is None else argv)
    os.umask(0o077)  # what we write holds prompts and keys
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    for ours in ("sirl", "online", "serving"):  # vLLM's set-up raises the root's level, and our warnings must be heard
        logging.getLogger(ours).setLevel(logging.INFO)
    for client in ("httpx", "httpx2", "openai"):  # a line a request would drown everything else
        logging.getLogger(client).setLevel(logging.WARNING)
    try:
        if argv[:1] == ["serve"]:
            return serve(argv[1:])
        if argv[:1] == ["eval"]:
            from serving import evaluation

            return evaluation.main(argv[1:])
        args = parser().parse_args(argv)
        if args.while_parent:
            stop_with_parent()
        return args.run(args)
    except (OnlineError, EngineError, CalibrationError, FileNotFoundError) as error:
        print(f"sirl: {error}" + ("" if str(error).endswith((".", "?")) else "."), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # who reads our output has had enough of it, such as `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def parser() -> argparse.ArgumentParser:
    """The parser of every subcommand but `serve`, whose flags are vLLM's, and `eval`, whose import takes a second."""
    top = argparse.ArgumentParser(
        prog="sirl",
        description="Safety-instinct guard and online learner for vLLM.",
        formatter_class=argparse.RawDescriptionHelpFormatter,  # --version is four lines
    )
    top.add_argument("--version", action="version", version=versions(), help="print what is installed, by version")
    top.set_defaults(while_parent=False)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("serve", help="vLLM's OpenAI server with the guard inside: sirl serve [MODEL] [vllm flags]")
    commands.add_parser("eval", help="attack any endpoint, and say how well it is defended: sirl eval --help")

    def command(name: str, run, help_: str, groups=("top",), model: bool = True) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help_, description=help_, allow_abbrev=False)
        sub.set_defaults(run=run)
        sub.add_argument("--while-parent", action="store_true", help=argparse.SUPPRESS)
        if model:
            sub.add_argument("model", nargs="?", help="model folder (default: the bundled sirl-tiny)")
        settings_module.add_arguments(sub, groups)
        return sub

    groups = ("top", "calibrate", "update", "registry")
    sub = command("calibrate", calibrate, "learn openings and bands for a model and adapter", groups)
    sub.add_argument("--suite", type=Path, help="JSON lines of labelled prompts (default: the bundled model's)")
    sub.add_argument("--adapter", default="base", help='"base" or a version such as "v3"')
    for name, run, help_ in (
        ("update", update, "run one SIRL update: learn, calibrate, gate, promote"),
        ("learn", learn, "run updates when they are due"),
    ):
        command(name, run, help_, ("top", "buffer", "queue", "calibrate", "update", "gate", "release", "learn", "registry"))
    sub = command(
        "adapters",
        adapters,
        "list, import (and gate), release by stages, activate at once, take back, roll back, pin, sign, collect (gc) or "
        "share (sync) adapters",
        ("top", "buffer", "queue", "calibrate", "update", "gate", "release", "registry"),
        model=False,
    )
    sub.add_argument("--model", help="model folder (default: the bundled sirl-tiny)")
    sub.add_argument("--force", action="store_true", help="activate although the gate rejected it")
    sub.add_argument("--no-gate", dest="gate", action="store_false", help="import only: leave it a candidate")
    sub.add_argument("action", choices=("list", "import", "release", "activate", "withdraw", "rollback", *ACTS))
    sub.add_argument("target", nargs="?", help="a version (v3, base), or for import a PEFT adapter folder")
    sub = command("explain", explain, "list the events that taught an adapter", ("top",), model=False)
    sub.add_argument("version", help="such as v7")
    sub.add_argument("--json", action="store_true", help="print the ledger as JSON")
    sub = command(
        "forget",
        forget,
        "delete events, destroy the adapters that learned from them, teach anew what served",
        ("top", "buffer", "queue", "calibrate", "update", "gate", "release", "registry"),
    )
    sub.add_argument("--client", action="append", default=[], help="API key, address, or the hash that events show")
    sub.add_argument("--event", action="append", default=[], help="id of one event, as responses and `sirl explain` show it")
    about = "show which prompts the next update may learn from, and decide about them"
    sub = command("queue", queue, about, ("top", "buffer", "queue"), model=False)
    sub.add_argument("--model", help="model folder (default: the bundled sirl-tiny)")
    sub.add_argument("action", nargs="?", default="list", choices=("list", "approve", "exclude", "reset", "redact"))
    sub.add_argument("--prompt", action="append", default=[], metavar="HASH", help="a prompt, by the hash that is listed")
    sub.add_argument("--client", action="append", default=[], help="API key, address, or the hash that is listed")
    sub.add_argument("--all", action="store_true", help="list what is admitted as well")
    sub.add_argument("--text", action="store_true", help="show the prompts' texts")
    sub.add_argument("--json", action="store_true", help="print the list as JSON")
    about = "teach an adapter once more from its ledger and compare it bit for bit"
    sub = command("repeat", repeat, about, ("top", "buffer", "registry"), model=False)
    sub.add_argument("--model", help="model folder (default: the bundled sirl-tiny)")
    sub.add_argument("version", help="such as v7")
    sub = command("doctor", doctor, "look the installation over and say what is not sound", ("top", "buffer", "registry"))
    sub.add_argument("--json", action="store_true", help="print the findings as JSON")
    sub.add_argument("--fast", action="store_true", help="leave out the engine self-test (half a minute)")
    sub = command("demo", demo, "serve, watch, learn, swap: the whole story in some minutes")
    sub.add_argument("--json", type=Path, metavar="FILE", help="write the table's figures to FILE")
    sub.add_argument("--families", type=Path, metavar="FILE", help="JSON lines of attack wrappers to test with as well")
    sub.add_argument("--quick", action="store_true", help="the whole path in a few minutes, on too little to show a rise")
    sub.add_argument("--prompts", type=int, help="test prompts a class and measurement (default 120, with --quick 12)")
    sub.add_argument("--seed", type=int, default=0, help="seed of traffic, tests and update")
    sub.add_argument("--keep", type=Path, metavar="DIR", help="keep the state directory here")
    sub = command("reproduce", reproduce, "train a model as published: all weights, no gate", ("update",), model=False)
    sub.set_defaults(sirl_update_preset="paper")
    sub.add_argument("--model", required=True, help="model folder or hub name, such as Qwen/Qwen2.5-3B-Instruct")
    sub.add_argument("--data", help="JSON lines with `prompt`, or a hub dataset (default: PKU-Alignment/PKU-SafeRLHF)")
    sub.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the trained model and its report go")
    sub = command("settings", reference, "print the reference of all settings", (), model=False)
    return top


def serve(argv: Sequence[str]) -> int:
    """`sirl serve [MODEL] [any flag of vllm serve]`: our flags are taken out, the rest is vLLM's."""
    ours = argparse.ArgumentParser(prog="sirl serve", add_help=False, allow_abbrev=False)
    settings_module.add_arguments(ours, EVERY_GROUP, config_flag="--guard-config")
    ours.add_argument("--learn", action="store_true", help="start and supervise the learner beside the server")
    ours.add_argument("--while-parent", action="store_true", help=argparse.SUPPRESS)
    ours.add_argument("--rollouts-only", action="store_true", help=argparse.SUPPRESS)
    ours.add_argument("-h", "--help", action="store_true")
    known, rest = ours.parse_known_args(argv)
    if known.while_parent:
        stop_with_parent()
    model = rest.pop(0) if rest and not rest[0].startswith("-") else None
    prepare_environment(bundled=model is None)
    from serving import model as models_of_ours
    from serving.engine import server
    from serving.engine.rollouts import SHARE

    if known.help:
        ours.print_help()
        print("\nAll flags of `vllm serve` (of which those the guard cannot work with are refused by name):\n")
        server.parser().print_help()
        return 0
    settings = settings_module.load(known)
    if settings.chat_template is not None:
        rest += ["--chat-template", settings.chat_template]  # vLLM's own flag: ours took it, for it is the learner's too
    args = server.parse(models_of_ours.resolve(model), rest, settings, bundled=model is None)
    flags = learner_flags(known)
    if args.chat_template is not None and settings.chat_template is None:  # from vLLM's own --config file
        flags += ["--chat-template", str(args.chat_template)]
    import uvloop

    share = 1 if known.rollouts_only else SHARE
    uvloop.run(server.serve(args, settings, flags, learn=known.learn, share=share))
    return 0


def learner_flags(known: argparse.Namespace) -> list[str]:
    """The settings flags the server was given, for the learner it starts."""
    flags = []
    for key in settings_module.keys():
        if hasattr(known, key.dest) and key.group != "guard":
            flags += [key.flag, str(getattr(known, key.dest))]
    if hasattr(known, "sirl_config"):
        flags += ["--config", str(known.sirl_config)]
    return flags


def stop_with_parent() -> None:
    """Stop when our standard input ends: it is a pipe held by the process that started us."""

    def wait() -> None:
        while os.read(0, 4096):  # sys.stdin has a lock, and Python aborts where a thread still holds it at exit
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="sirl-parent", daemon=True).start()


def reference(args: argparse.Namespace) -> int:
    print(settings_module.reference(), end="")
    return 0


def load(args: argparse.Namespace, *, checked: bool = True) -> tuple[Settings, Path]:
    """Settings and the local model folder of a command."""
    from serving.model import resolve

    return settings_module.load(args), Path(resolve(args.model, checked=checked))


def calibrate(args: argparse.Namespace) -> int:
    from online.jobs import run_calibration

    settings, model = load(args)
    print(run_calibration(settings, model, args.adapter, args.suite))
    return 0


def update(args: argparse.Namespace) -> int:
    from online.jobs import run_one_update, sentence
    from serving.child import own_engine

    settings, model = load(args)
    outcome = run_one_update(settings, model, partial(own_engine, settings, model))
    print(sentence(outcome))
    print(f"report: {settings.state_dir / 'updates' / outcome.id / 'report.html'}")
    return 1 if outcome.status in ("refused", "failed") else 0


def reproduce(args: argparse.Namespace) -> int:
    from online.reproduce import DATA, reproduce

    report = reproduce(args.model, args.data or DATA, args.out, settings_module.load(args).update)
    print(f"{report.parent} holds the trained model\nreport: {report}")
    return 0


def learn(args: argparse.Namespace) -> int:
    from online.jobs import run_scheduler
    from serving.child import own_engine

    settings, model = load(args)
    run_scheduler(settings, model, partial(own_engine, settings, model))
    return 0


def adapters(args: argparse.Namespace) -> int:
    from online.fingerprint import fingerprint
    from online.registry import Registry
    from online.share import share
    from online.state import StateDir

    settings, model = load(args)
    state = StateDir(settings.state_dir)
    registry = Registry(state, fingerprint(model), settings.registry)
    if args.action == "list":
        for adapter in registry.versions():
            print(f"{adapter.name}\t{adapter.state}\t{adapter.decision or ''}" + ("\tpinned" if adapter.pinned else ""))
        live = registry.live()
        print(f"live: {'base' if live is None else f'v{live}'}")
        if release := registry.releasing():
            print(f"on its way: v{release.version}, {release.stage}, a share of {release.share:g}")
        return 0
    if args.action == "import":
        rank = settings.update.lora_rank
        version = registry.import_adapter(Path(args.target or "."), base_dir=model, max_rank=rank)
        print(f"imported as v{version}, a candidate")
        if args.gate:
            from online.jobs import gate_version, sentence

            print(sentence(gate_version(settings, model, version)))
    elif args.action == "activate":
        from online.jobs import version_of

        name = args.target or ""
        wanted = None if name == "base" else version_of(name)
        registry.activate(wanted, actor="cli", reason="asked for", force=args.force)
        print(f"{name} is live: a running server takes it up within a second.")
    elif args.action == "release":
        from online.jobs import version_of
        from online.release import advance

        version = version_of(args.target or "")
        stage = advance(registry, settings.release, version, actor="cli", reason="asked for")
        print(f"v{version} is {'live' if stage is None else f'on its way: {stage}'}.")
    elif args.action == "withdraw":
        registry.release(None, actor="cli", reason="asked for")
        print("Nothing is on its way to serve.")
    elif args.action == "rollback":
        back = registry.rollback(actor="cli", reason="asked for")
        print(f"{'base' if back is None else f'v{back}'} is live again.")
    else:
        from online.jobs import keep

        print(keep(state, registry, args.action, args.target or ""))
    if args.action != "sync":
        share(state, registry)
    return 0


def explain(args: argparse.Namespace) -> int:
    from online.jobs import version_of
    from online.ledger import Ledger
    from online.state import StateDir

    version = version_of(args.version)
    ledger = Ledger.load(StateDir(settings_module.load(args).state_dir).registry / f"v{version}")
    if args.json:
        print(json.dumps(ledger.to_dict(), indent=1))
        return 0
    clients, prompts = ({getattr(entry, name) for entry in ledger.entries} for name in ("client", "prompt"))
    print(f"v{version} was taught by {len(ledger.entries)} events: {len(prompts)} prompts of {len(clients)} clients")
    for entry in ledger.entries:
        print(f"{moment(entry.time)}\t{entry.id}\tclient {entry.client}\tprompt {entry.prompt}\t{entry.band}")
    return 0


def forget(args: argparse.Namespace) -> int:
    from online.jobs import forget as run
    from serving.child import own_engine

    if not args.client and not args.event:
        raise OnlineError("nothing is named to be forgotten: give --client or --event.")
    settings, model = load(args)
    for line in run(settings, model, args.client, args.event, partial(own_engine, settings, model)):
        print(line, flush=True)
    return 0


def queue(args: argparse.Namespace) -> int:
    from online import jobs
    from online.review import told

    settings, model = load(args)
    if args.action != "list":
        if not args.prompt and not args.client:
            raise OnlineError(f"nothing is named to {args.action}: give --prompt or --client.")
        if args.action == "redact":
            if args.client:
                raise OnlineError("what is redacted is a prompt: use `sirl forget` for a client.")
            print(f"{jobs.redact(settings, model, args.prompt)} events are redacted.")
            return 0
        for kind, names in (("prompt", args.prompt), ("client", args.client)):
            if names:
                jobs.decide(settings, kind, names, args.action)
    found = jobs.queue(settings, model)
    shown = [told(one, text=args.text) for one in found.prompts if args.all or not one.admitted]
    if args.json:
        print(json.dumps({"counts": found.counts(), "prompts": shown}, indent=1))
        return 0
    print(", ".join(f"{count} {fate}" for fate, count in found.counts().items()))
    if found.excluded:
        print(f"excluded clients: {', '.join(found.excluded)}")
    words = jobs.words(model, {one.token for one in found.prompts if one.token is not None}) if args.text else {}
    for token, word in words.items():
        print(f"token {token} is {word!r}")
    for one in shown:
        sent = f"{', '.join(one['clients'][:SENDERS])}{', ...' if len(one['clients']) > SENDERS else ''}"
        line = f"{moment(one['time'])}\t{one['prompt']}\t{one['fate']}\t{one['why']}\tclients {sent}"
        print(line + (f"\t{one['text']!r}" if args.text else ""))
    return 0


def moment(time: float) -> str:
    """Unix time as people read it."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(time, UTC).isoformat(timespec="seconds")


def repeat(args: argparse.Namespace) -> int:
    from online.jobs import repeat_version, version_of

    settings, model = load(args)
    there, again = repeat_version(settings, model, version_of(args.version))
    same = there == again
    print(f"{args.version} came out {'the same, bit for bit' if same else 'otherwise'}: sha256 {there}, and now {again}")
    return 0 if same else 1


def doctor(args: argparse.Namespace) -> int:
    from serving.doctor import examine

    settings, model = load(args, checked=False)
    findings = list(examine(settings, model, fast=args.fast))
    if args.json:
        print(json.dumps([{"level": f.level, "subject": f.subject, "message": f.message} for f in findings], indent=1))
    else:
        for finding in findings:
            print(f"{finding.level:8} {finding.subject}: {finding.message}")
    return 1 if any(finding.level == "error" for finding in findings) else 0


def demo(args: argparse.Namespace) -> int:
    from serving.demo import run_demo

    return run_demo(args)
