"""`sirl doctor`: what of the installation is not sound, and the mend."""

from __future__ import annotations

import argparse
import json

from serving.cli.command import chosen, command


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    about = "look the installation over and say what is not sound"
    sub = command(commands, "doctor", run, about, ("top", "buffer", "update", "registry"))
    sub.add_argument("--json", action="store_true", help="print the findings as JSON")
    sub.add_argument("--fast", action="store_true", help="leave out the engine self-test (half a minute)")


def run(args: argparse.Namespace) -> int:
    from serving.doctor import examine

    settings, model = chosen(args, checked=False)
    findings = list(examine(settings, model, fast=args.fast))
    if args.json:
        print(json.dumps([{"level": f.level, "subject": f.subject, "message": f.message} for f in findings], indent=1))
    else:
        for finding in findings:
            print(f"{finding.level:8} {finding.subject}: {finding.message}")
    return 1 if any(finding.level == "error" for finding in findings) else 0
