"""Pages from templates: what is escaped, what is refused, and whether their colours can be read."""

from __future__ import annotations

from pathlib import Path

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from evaluation.html import HUES, PALETTE, render


@pytest.fixture
def template(tmp_path: Path) -> Path:
    path = tmp_path / "some.html.jinja"
    path.write_text('{% extends "document.html.jinja" %}{% block body %}{{ text }}{{ drawing }}{% endblock %}')
    return path


def test_text_is_escaped_and_markup_is_not(template: Path) -> None:
    page = render(template, title="<of today>", text="<script>&", drawing=Markup("<b>bold</b>"))
    assert "<title>&lt;of today&gt;</title>" in page and "&lt;script&gt;&amp;<b>bold</b>" in page


def test_a_name_that_nobody_gave_is_an_error(template: Path) -> None:
    with pytest.raises(UndefinedError, match="'drawing' is undefined"):
        render(template, title="", text="")


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb (WCAG 2)."""
    shares = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = (share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares)
    return sum(weight * share for weight, share in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("screen", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("name", ["ink", "faint", *HUES])
def test_words_can_be_read_on_every_ground(name: str, screen: int) -> None:
    for ground in ("back", "card"):
        dim, bright = sorted(luminance(PALETTE[one][screen]) for one in (name, ground))
        assert (bright + 0.05) / (dim + 0.05) >= 4.5, ground
