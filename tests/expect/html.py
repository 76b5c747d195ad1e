# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an HTML file has to be: well-formed."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import List, Optional, Set, Tuple

__all__ = ("Page",)

VOID = {"meta"}


class Page(HTMLParser):
    """Checks that elements are nested, and collects what there is."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: List[str] = []
        self.tags: Set[str] = set()
        self.attributes: List[Tuple[str, Optional[str]]] = []
        self.ids: List[str] = []
        self.text = ""
        self.scripts: List[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: List[Tuple[str, Optional[str]]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["script"]:
            self.scripts.append(data)
        else:
            self.text += data
