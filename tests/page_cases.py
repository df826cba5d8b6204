"""Reads a page as a browser or a screen reader would, and says where it breaks a rule."""

from __future__ import annotations

import re
from html.parser import HTMLParser

VOID = {"meta", "wbr", "link", "br", "img", "hr", "input"}
ADDRESSES = {"src", "href", "xlink:href", "srcset", "action", "data", "poster"}


class Outline(HTMLParser):
    """What a page consists of; refuses tags that do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[int] = []
        self.text: list[str] = []
        self.captions = 0
        self.feed(html)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def words(self) -> str:
        """Return all visible text with single spaces."""
        return " ".join(" ".join(self.text).split())


def read_page(html: str) -> Outline:
    """Return the page's outline, having checked that it stands alone and can be read aloud."""
    page = Outline(html)
    for tag, attributes in page.tags:
        for key in ADDRESSES & set(attributes):
            assert (attributes[key] or "").startswith("#"), f"<{tag} {key}={attributes[key]}> leads out of the page"
    assert not page.all("script")
    assert not re.search(r"@import|url\((?!#)", html), "the style sheet loads something"
    assert page.all("html")[0]["lang"] == "en"
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids)), "an id stands twice"
    assert page.headings[0] == 1
    assert page.headings.count(1) == 1
    for before, after in zip(page.headings, page.headings[1:], strict=False):
        assert after <= before + 1, f"h{after} follows h{before}"
    for picture in page.all("svg"):
        assert picture["role"] == "img"
        assert picture["aria-labelledby"] in ids
    for link in page.all("a"):
        assert (link["href"] or "").removeprefix("#") in ids
    assert len(page.all("caption")) == len(page.all("table"))
    return page
