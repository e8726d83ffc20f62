"""Reading a rendered page back: balanced tags, the text that a person sees, the headings."""

from __future__ import annotations

import re
from html.parser import HTMLParser

VOID = {"meta", "br"}
SVG_EMPTY = {"line", "rect", "circle", "polygon", "path", "g"}


class Page(HTMLParser):
    """Fails on the first tag that is not closed where it should be."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.pieces: list[str] = []
        self.headings: list[int] = []
        self.island = ""
        self.feed(html)
        self.close()
        assert not self.open, f"left open: {self.open}"

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.pieces))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        self.pieces.append(" ")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in SVG_EMPTY
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()
        self.pieces.append(" ")

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.island += data
        elif self.open and self.open[-1] != "style":
            self.pieces.append(data)
