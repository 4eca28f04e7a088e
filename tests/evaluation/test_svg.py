"""Drawings on a page and in a file of their own."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from matplotlib import rc_context
from matplotlib.figure import Figure as Canvas

from evaluation.html import PALETTE
from evaluation.svg import COLOURS, STYLE, inline, standalone

TEXT = 'a < b & "id" #1c2330'


@rc_context(STYLE)
def drawing() -> Canvas:
    canvas = Canvas(figsize=(3, 2))
    axes = canvas.add_subplot()
    axes.plot([0, 1, 2], [0, 2, 1], "o-", label=TEXT)
    axes.set(xlim=(0, 1), title="$x$ plain")
    axes.legend()
    return canvas


def test_ids_are_one_drawings_own_and_every_reference_finds_its() -> None:
    page = f"<body>{inline(drawing(), 'first', 'One')}{inline(drawing(), 'second', 'Another')}</body>"
    body = ElementTree.fromstring(page)
    ids = [element.attrib["id"] for element in body.iter() if "id" in element.attrib]
    referred = re.findall(r'(?:url\(|href=")#([^")]+)', page)
    assert len(set(ids)) == len(ids) and set(ids) == set(referred)
    assert {one.split("-")[0] for one in ids} == {"first", "second"}


def test_a_drawing_takes_colours_and_font_from_its_page() -> None:
    svg = str(inline(drawing(), "one", TEXT))
    shown = {colour for colour in re.findall(r"#[0-9a-f]{6}\b", re.sub(r">[^<]*<", "><", svg))}
    assert not shown and "font-family" not in svg and "<style" not in svg
    assert {"ink", "faint", "line", "blue"} <= set(re.findall(r"var\(--(\w+)\)", svg)) <= set(PALETTE)


def test_a_drawing_says_what_it_shows_and_its_text_is_text() -> None:
    root = ElementTree.fromstring(inline(drawing(), "one", TEXT))
    assert root.attrib["role"] == "img" and root[0].tag == "title" and root[0].text == TEXT
    assert TEXT in [element.text for element in root.iter("text")]


def test_the_same_data_give_the_same_bytes() -> None:
    assert inline(drawing(), "one", "t") == inline(drawing(), "one", "t") and standalone(drawing()) == standalone(drawing())
    assert not re.search(r"\d{4}-\d\d-\d\d", standalone(drawing()))


def test_a_file_of_its_own_is_whole_and_on_white() -> None:
    root = ElementTree.fromstring(standalone(drawing()))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    background = next(element for element in root.iter("{http://www.w3.org/2000/svg}path"))
    assert "fill: #ffffff" in background.attrib["style"] and COLOURS["ink"] in standalone(drawing())
