"""The attacks by name, one module each, and templates of an operator's own."""

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from evaluation.attacks import templates
from evaluation.attacks.attack import Answer, Attack, Messages, Needs, Query, Role, Tries, rewritten, said

__all__ = [
    "ATTACKS",
    "Answer",
    "Attack",
    "Messages",
    "Needs",
    "Query",
    "Role",
    "Tries",
    "by_name",
    "load_templates",
    "rewritten",
    "said",
]


def by_name(attacks: Iterable[Attack]) -> dict[str, Attack]:
    """The attacks in the order of their names; raises ValueError where two have the same."""
    found: dict[str, Attack] = {}
    for attack in sorted(attacks, key=lambda attack: attack.name):
        if attack.name in found:
            raise ValueError(f"two attacks are called {attack.name!r}: give each a name of its own")
        found[attack.name] = attack
    return found


def load_templates(path: str | Path) -> dict[str, Attack]:
    """An operator's own attacks by name, from JSON lines: `name`, either `template` (text with {goal} in it) or `messages`
    (chat messages, {goal} in one of them), and if wanted `about` and `source`. Raises SuiteError (one sentence: file, line,
    cause, mend)."""
    return templates.load(path, ATTACKS)


_modules = [import_module(f"{__name__}.{found.name}") for found in iter_modules(__path__)]
ATTACKS: dict[str, Attack] = by_name(module.ATTACK for module in _modules if hasattr(module, "ATTACK"))
