"""The site is built as `make docs` builds it: every link and anchor leads somewhere, and nothing comes from a network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs.blocks import ROOT, pages

FRONT = [page for page in pages() if not page.is_relative_to(ROOT / "docs")]
"""Pages outside the site: their links are checked here."""
FETCHED = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=[\"']?(https?:)?//", re.IGNORECASE)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    built = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def test_every_page_is_built(site: Path) -> None:
    built = {path.relative_to(site).with_suffix(".md").as_posix() for path in site.rglob("*.html")}
    assert built >= {page.relative_to(ROOT / "docs").as_posix() for page in pages() if page.is_relative_to(ROOT / "docs")}


def test_nothing_is_fetched_from_a_network(site: Path) -> None:
    assert not [path.name for path in site.rglob("*.html") if FETCHED.search(path.read_text("utf-8"))]
    assert not [
        path.name
        for path in site.rglob("*.css")
        if re.search(r"(url\(|@import )[\"']?(https?:)?//", path.read_text("utf-8"))
    ]


def test_results_are_not_published_twice(site: Path) -> None:
    assert not list(site.rglob("results.json")) and not list(site.rglob("*.py"))


@cache
def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", FRONT, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_of_the_front_pages_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8"))
    assert links or page.name == "CHANGELOG.md" or page.parent.name == "sirl-tiny" or page.parent.name == "deploy"
    for link in links:
        parts = urlsplit(link)
        if parts.scheme:
            continue
        target = page.parent / unquote(parts.path) if parts.path else page
        assert target.exists(), f"{page.name} links to {link}"
        assert not parts.fragment or parts.fragment in anchors(target.resolve()), f"{page.name} links to {link}"
