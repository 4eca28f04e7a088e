"""Drawings by matplotlib, as elements of a page and as files of their own. The same data give the same bytes."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from cycler import cycler
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure as Canvas

from evaluation.html import HUES, PALETTE

COLOURS: Mapping[str, str] = {name: light for name, (light, _) in PALETTE.items()}
"""What a drawing takes its colours from; on a page they follow the page's style."""
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.titlecolor": COLOURS["ink"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": COLOURS["faint"],
    "axes.labelcolor": COLOURS["faint"],
    "axes.prop_cycle": cycler(color=[COLOURS[hue] for hue in HUES]),
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": COLOURS["line"],
    "grid.linewidth": 0.6,
    "text.color": COLOURS["ink"],
    "xtick.color": COLOURS["faint"],
    "ytick.color": COLOURS["faint"],
    "legend.frameon": False,
    "legend.fontsize": 8,
}
"""The look of a drawing, for `matplotlib.rc_context` around the code that makes it."""
_VARIABLES = {light: f"var(--{name})" for name, light in COLOURS.items()}
_COLOUR = re.compile("|".join(_VARIABLES))
_FONT = re.compile(r"font-family:[^;]*;?\s*")
_REFERENCE = re.compile(r"^(url\()?#([^)]+)(\)?)$")


def inline(canvas: Canvas, name: str, title: str) -> Markup:
    """The drawing as an element of a page from `document.html.jinja`, in its font and colours, as wide as there is room.

    name: begins the ids inside; two drawings of a page have two names. title: says what it shows to those who do not see it.
    """
    root = ElementTree.fromstring(_drawn(canvas, transparent=True))
    used = {found[2] for element in root.iter() for value in element.attrib.values() if (found := _REFERENCE.match(value))}
    for element in root.iter():
        element.tag = _local(element.tag)
        element.attrib = {
            _local(key): _placed(_local(key), value, name)
            for key, value in element.attrib.items()
            if key != "id" or value in used
        }
    for parent in [*root.iter("defs")]:
        for sheet in parent.findall("style"):  # one for every element of the page
            parent.remove(sheet)
    heading = ElementTree.Element("title")
    heading.text = title
    root.insert(0, heading)
    width = 72 * canvas.get_size_inches()[0]
    size = f"min-width: {0.65 * width:.0f}pt; max-width: {width:.0f}pt"
    root.attrib = {"class": "plot", "viewBox": root.attrib["viewBox"], "style": size, "role": "img"}
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def standalone(canvas: Canvas) -> str:
    """The drawing as a file of its own, on white."""
    return _drawn(canvas, facecolor=COLOURS["back"])


def _drawn(canvas: Canvas, **how: Any) -> str:
    stream = io.StringIO()
    unnamed = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with rc_context({"svg.hashsalt": "sirl", "svg.fonttype": "none"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # the reader's fonts draw the text, not ours
        canvas.savefig(stream, format="svg", metadata=unnamed, **how)
    text = stream.getvalue()
    return text[text.index("<svg") :]


def _local(name: str) -> str:
    """A name without its namespace, which an element of HTML does without."""
    return name.rpartition("}")[2]


def _placed(key: str, value: str, name: str) -> str:
    """An attribute as it is on the page."""
    if key == "id":
        return f"{name}-{value}"
    if key == "style":
        return _COLOUR.sub(lambda found: _VARIABLES[found[0]], _FONT.sub("", value))
    return _REFERENCE.sub(rf"\g<1>#{name}-\g<2>\g<3>", value)
