"""Pages of one file that fetch nothing, from Jinja templates that lie beside the code."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

HUES = ("blue", "orange", "green", "purple", "ochre")
"""Colours of kinds, in the order in which they are given out; readers with any colour vision tell the first two apart."""
PALETTE: Mapping[str, tuple[str, str]] = {
    "back": ("#ffffff", "#14181f"),
    "ink": ("#1c2330", "#e4e8ee"),
    "faint": ("#5b6472", "#9aa5b4"),
    "line": ("#dde1e7", "#303947"),
    "idle": ("#aab2bd", "#566070"),
    "card": ("#f5f7f9", "#1c222c"),
    "notice": ("#fff3d6", "#3d3216"),
    "blue": ("#0b63b0", "#6cb6ff"),
    "orange": ("#c2410c", "#ff9a5c"),
    "green": ("#00795a", "#4fd1a5"),
    "purple": ("#7a3db8", "#c9a2ff"),
    "ochre": ("#8a6a00", "#e0c060"),
}
"""Colours of a page by name: on a light screen and on paper, on a dark screen."""


def render(template: Path, **values: object) -> str:
    """The page that a template makes of values: all text is escaped but `Markup`.

    The template may extend `document.html.jinja`, which lies beside this module. A name that it uses and nobody gave raises
    jinja2.UndefinedError.
    """
    return _environment(template.parent).get_template(template.name).render(values)


@cache
def _environment(folder: Path) -> Environment:
    environment = Environment(
        loader=FileSystemLoader([folder, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(palette=PALETTE, hues=HUES)
    return environment
