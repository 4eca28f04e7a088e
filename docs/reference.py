"""Write the reference pages from the code: `python -m docs.reference` (`make docs` does it first).

Settings, metrics, routes and commands are described once, where they are defined. A test holds the pages to that.
"""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable, Iterable
from pathlib import Path

from fastapi import FastAPI
from fastapi.routing import APIRoute
from prometheus_client import CollectorRegistry

from evaluation.attacks import ATTACKS
from evaluation.command import flags
from online.settings.key import keys
from online.settings.reference import reference as settings
from serving.admin.access import Role
from serving.admin.routes import ROUTERS
from serving.api_formats import API_FORMATS
from serving.cli import serve
from serving.cli.main import parser as command_line
from serving.engine.arguments import FORBIDDEN
from serving.metrics import Metrics

FOLDER = Path(__file__).parent / "reference"
SUFFIX = {"counter": "_total"}
"""What Prometheus appends to a metric's name."""


def main() -> None:
    """Write every page anew."""
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), "utf-8")


def row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    head = list(head)
    return [row(*head), row(*["---"] * len(head)), *(row(*cells) for cells in rows), ""]


def metrics() -> str:
    """Every metric of ours: its name as exported, its type, its labels with their values, its help."""
    registry = CollectorRegistry()
    Metrics(registry)
    rows = []
    for family in registry.collect():
        labels: dict[str, set[str]] = {}
        for sample in family.samples:
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
        labels.pop("le", None)
        closed = "; ".join(f"`{name}`: {', '.join(sorted(values))}" for name, values in labels.items())
        rows.append((f"`{family.name}{SUFFIX.get(family.type, '')}`", family.type, closed, family.documentation))
    return "\n".join(
        [
            "# Metrics",
            "",
            "The server exports these beside vLLM's own (`vllm:*`) on `/metrics`. The values of every label are closed:",
            "nothing that a client sends becomes one. The adapter's version is the one open value; only the active version",
            "is exported. Dashboard and alert rules for Prometheus and Grafana are in the folder `deploy/`.",
            "",
            *table(("metric", "type", "labels", "meaning"), sorted(rows)),
        ]
    )


def routes() -> str:
    """Every route under /guard/v1/, with the role it asks for, and every route whose answers the guard knows."""
    app = FastAPI()
    for router in ROUTERS:
        app.include_router(router)
    sections = []
    for route in (route for router in ROUTERS for route in router.routes):
        if not isinstance(route, APIRoute) or not route.include_in_schema:
            continue
        (method,) = route.methods
        operation = app.openapi()["paths"][route.path][method.lower()]
        fails = [code for code in operation["responses"] if int(code) >= 400 and code != "422"]
        sections += [f"## {method} {route.path}", "", " ".join(operation["description"].split()), ""]
        sections += [f"Role: {role(route)}. It may fail with {', '.join(sorted(fails))}.", ""]
        if parameters := operation.get("parameters"):
            rows = (
                (f"`{one['name']}`", one["in"], kind(one["schema"]), str(one["schema"].get("default", "")))
                for one in parameters
            )
            sections += table(("parameter", "in", "type", "default"), rows)
    return "\n".join(
        [
            "# Routes",
            "",
            "All routes of `vllm serve` are served, with vLLM's own bodies. The guard knows the answers of these, and can",
            f"end them: {', '.join(f'`{path}`' for path in API_FORMATS)}.",
            "Other routes that generate are passed and counted while observing, and refused with a 400 while enforcing.",
            "",
            "The routes below administer the guard. Without a key they are open to this machine alone. With keys each asks",
            "for a role (`--guard-read-key`, `--guard-operate-key`, `--guard-admin-key`). `/openapi.json` describes them,",
            "too. Errors have vLLM's body: `error` with `message`, `type`, `param` and `code`.",
            "",
            *sections,
        ]
    )


def role(route: APIRoute) -> str:
    """The role that the route asks for, lower case."""
    for dependant in route.dependant.dependencies:
        if dependant.call is not None:
            for value in inspect.getclosurevars(dependant.call).nonlocals.values():
                if isinstance(value, Role):
                    return value.name.lower()
    raise LookupError(f"{route.path} asks for no role: give it one.")


def kind(schema: dict) -> str:
    """A parameter's type in words."""
    options = schema.get("anyOf", [schema])
    names = []
    for one in options:
        if "enum" in one:
            names.append(" or ".join(map(str, one["enum"])))
        elif one.get("type") == "array":
            names.append(f"list of: {kind(one['items'])}")
        elif one.get("type") != "null":
            names.append(one.get("type", "value"))
    return ", ".join(names)


def commands() -> str:
    """Every command with its own arguments; settings are linked to."""
    lines = [
        "# Commands",
        "",
        "`sirl COMMAND --help` prints this for one command, with all settings that it takes. Every setting is also a key",
        "of a TOML file and a variable of the environment: [settings](settings.md). A command that fails for a reason it",
        "can name says it in one sentence, and ends with status 1.",
        "",
        "## sirl serve",
        "",
        "vLLM's OpenAI-compatible server with the guard inside: `sirl serve [MODEL] [any flag of vllm serve] [settings]`.",
        "",
        "Without `MODEL` it serves the bundled model. Flags of vLLM that the guard cannot work with are refused by name.",
        "",
        *arguments(serve.parser()),
        "Their file is `--guard-config FILE` here, because `--config` is vLLM's.",
        "",
        *refused(),
    ]
    top = command_line()
    (subparsers,) = (action for action in top._actions if isinstance(action, argparse._SubParsersAction))
    for name, parser in subparsers.choices.items():
        if name in ("serve", "eval"):
            continue
        lines += [f"## sirl {name}", "", f"{sentence(parser.description)}", "", *arguments(parser)]
    lines += ["## sirl eval", "", flags.ABOUT, "", *arguments(flags.parser())]
    lines += ["The attacks that `--attacks` can name:", "", ", ".join(f"`{name}`" for name in sorted(ATTACKS)) + ".", ""]
    return "\n".join(lines)


def refused() -> list[str]:
    """The section of vLLM's flags that `sirl serve` refuses, each with its reason."""
    rows = [(f"`--{name.replace('_', '-')}`", reason) for name, reason in FORBIDDEN.items()]
    rows += CONDITIONAL.items()
    return ["## Flags of vllm serve that are refused", "", *table(("flag", "why"), rows)]


def arguments(parser: argparse.ArgumentParser) -> list[str]:
    """The table of a parser's own arguments, and a line that says which settings it takes."""
    groups = {key.dest: key.group for key in keys()}
    rows, taken = [], dict[str, None]()
    for action in parser._actions:
        if action.dest in groups:
            taken[groups[action.dest]] = None
        elif action.help is not argparse.SUPPRESS and action.dest != "help":
            spelled = ", ".join(action.option_strings) or action.dest.upper()
            if action.choices:
                spelled += " " + "{" + ",".join(map(str, action.choices)) + "}"
            elif action.option_strings and action.nargs != 0:
                spelled += f" {action.metavar or action.dest.upper()}"
            rows.append((f"`{spelled}`", said(parser, action)))
    lines = table(("argument", "meaning"), rows) if rows else []
    if taken:
        links = (f"[{name}](settings.md#{anchor(name)})" for name in taken)
        lines += [f"It takes the settings of {', '.join(links)}.", ""]
    return lines


def anchor(group: str) -> str:
    return "top-level" if group == "top" else group


def said(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    if action.help:
        return action.help % {**vars(action), "prog": parser.prog}
    return "one of these" if action.choices else ""


def sentence(text: str | None) -> str:
    text = text or ""
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


CONDITIONAL = {
    "`--model`": "the model is named first: `sirl serve MODEL`",
    "`--api-server-count` above 1": "one process must see every response",
    "`--data-parallel-size` above 1": "one process must see every response",
    "`--runner pooling`": "nothing is generated: use `vllm serve`",
    "`--max-loras`, if too few": "swaps under load, pinned versions and modules need their slots",
    "`--enable-batch-sharded-sampling`": "it hides the logits from the probe",
    "`VLLM_ALLOW_RUNTIME_LORA_UPDATING` (environment)": "a request could load an adapter by path, past registry and gate",
    "`VLLM_SERVER_DEV_MODE` (environment)": "any client could call into the workers",
}
"""What is refused with some values alone, or later than the flags of FORBIDDEN."""
PAGES: dict[str, Callable[[], str]] = {
    "settings.md": settings,
    "metrics.md": metrics,
    "routes.md": routes,
    "cli.md": commands,
}

if __name__ == "__main__":
    main()
