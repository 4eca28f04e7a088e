"""Pages of one file that fetch nothing: the document, its look, and tables."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

CSS = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1c2330 }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem } svg { max-width: 100%; height: auto }
.promoted, .trained { color: #11713a } .rejected, .failed, .stopped { color: #a4262c }
.refused, .undecided { color: #8a5a00 }
table { border-collapse: collapse }
td, th { padding: .2rem .8rem .2rem 0; text-align: left; border-bottom: 1px solid #dde1e7 }
td.n { text-align: right; font-variant-numeric: tabular-nums }
"""


class Html(str):
    """Text that is markup already, and is not escaped again."""

    __slots__ = ()


def document(title: str, body: str, css: str = "") -> str:
    """A whole page around a body of markup; `css` comes after the common look."""
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    return f'<!doctype html>\n<html lang="en"><head>{head}<style>{CSS}{css}</style></head><body>{body}</body></html>\n'


def table(rows: Sequence[Sequence[str]], head: Sequence[str] = ()) -> str:
    """Names in the first column, numbers in the others."""
    top = "<tr>" + "".join(f"<th scope=col>{safe(cell)}</th>" for cell in head) + "</tr>" if head else ""
    body = (f"<td>{safe(first)}</td>" + "".join(f"<td class=n>{safe(cell)}</td>" for cell in rest) for first, *rest in rows)
    return "<table>" + top + "".join(f"<tr>{cells}</tr>" for cells in body) + "</table>"


def safe(text: str) -> str:
    return text if isinstance(text, Html) else escape(text)
