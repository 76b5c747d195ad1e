# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What somebody may give to ``diff`` and to ``--from``: files that are not quite right."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import re
import tarfile
from dataclasses import dataclass
from random import Random
from typing import Any, Callable, Iterator, Sequence, Union

__all__ = ("Saved",)

_ABSURD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 0.5, 1e300, "", " ", "x", [], {}, [[]], {"": 0}),
    *(10**400, -(10**400), float("inf"), float("nan"), 1 << 64, (1 << 64) - 1),
    *(
        "0x" + "f" * 400,
        "0x" + "f" * 5000,
        "-0x5",
        "0x1_0",
        "0x",
        "\ud800",
        "\x1b[31m<b>",
    ),
    *(
        "\u202e\n",
        "0xffffffffffffffff",
        "0x0",
        "1",
        {"0": 10**400},
        {"x": 1},
        {"-1": -5},
    ),
)
_PIECES = (
    *("\t", "  ", "\r", "\0", "\ufeff", "0x", "-", "9" * 400, "pages=", "N0=", "phys="),
    *(
        "vmalloc ",
        "ioremap ",
        "user ",
        "(____ptrval____)",
        "unpurged vm_area",
        "\x1b[31m",
    ),
    *(
        "é",
        "\udcff",
        "=",
        "+",
        "[",
        "]",
        "pages=-1",
        "N99999999999999999999=1",
        "N0=N0=",
    ),
)
_CELLS = (
    *("0x" + "f" * 16, "0x1" + 16 * "0", "0x0", "9" * 5000, "x" * 200_000, "²", "٣"),
    *('"', '""', '"x"y', ",", "\n", "\r\n", "busy", "free", "purging", "1e9", "nan"),
)
_DEEP = re.compile(r'\{"deep": ([0-9]{1,6})\}')
_ENCODINGS = ("utf-8", "utf-8", "utf-8", "utf-16", "utf-8-sig", "latin-1")
_MOST_AREAS = 20
_MEMINFO = b"MemTotal: 1 kB\nVmallocUsed: 20460 kB\n"
_LINES = (
    *(("diff", "old", "new"), ("diff", "old", "new", "--json"), ("diff", "new", "old")),
    *(("ls", "--from", "new"), ("ls", "--from", "new", "--json")),
    *(("ls", "--from", "new", "--format", "table"), ("top", "--from", "new")),
    *(("top", "--from", "new", "--openmetrics"), ("verify", "--from", "new")),
    *(("report", "--from", "new", "-o", "out"), ("diff", "new", "new")),
    *(
        ("diff", "old", "none"),
        ("ls", "--from", "folder"),
        ("top", "--from", "new", "--json"),
    ),
)


@dataclass(frozen=True)
class Saved:
    """
    What a sample saves.

    :param listed: What ``ls --json`` prints.
    :param table: What ``ls --format csv`` prints.
    :param text: /proc/vmallocinfo.
    :param core: The vmcore.
    """

    listed: bytes
    table: bytes
    text: bytes
    core: bytes

    def draw(
        self, draw: Random, runs: int
    ) -> tuple[tuple[tuple[str, str], ...], tuple[tuple[str, ...], ...]]:
        """Return files, and lines that read them."""
        how = draw.choice((*("json", "text", "csv") * 2, "json", "core", "other"))
        old = draw.choice((self._listed(), self._lines(draw)))
        new = {
            "json": self._json,
            "text": self._text,
            "csv": self._csv,
            "core": self._core,
            "other": _other,
        }[how](draw)
        lines = tuple(draw.choice(_LINES) for _ in range(runs))
        return (("old", old.hex()), ("new", new.hex())), lines

    def _listed(self) -> bytes:
        return json.dumps(self._document()).encode()

    def _document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.listed)
        document["areas"] = document["areas"][:_MOST_AREAS]
        return document

    def _lines(self, draw: Random) -> bytes:
        lines = self.text.splitlines(keepends=True)
        start = draw.randrange(len(lines))
        return b"".join(lines[start : start + _MOST_AREAS])

    def _json(self, draw: Random) -> bytes:
        document: Any = self._document()
        for _ in range(draw.choice((1, 1, 2, 5))):
            holder, key = draw.choice([*_places(document)])
            how = draw.random()
            if how < 0.15 and isinstance(holder, dict):
                del holder[key]
            elif how < 0.2:
                holder[key] = {"deep": draw.choice((10, 1000, 100_000))}
            elif how < 0.25:
                holder[key] = [holder[key]] * draw.choice((2, 10_000))
            else:
                holder[key] = draw.choice(_ABSURD)
        if draw.random() < 0.05:
            document = draw.choice(_ABSURD)
        text = _dumped(document)
        data = text.encode("utf-8", "surrogatepass")
        if draw.random() < 0.2:
            data = data[: draw.randrange(len(data) + 1)]
        return _packed(draw, data)

    def _text(self, draw: Random) -> bytes:
        text = self._lines(draw).decode()
        for _ in range(draw.choice((1, 1, 2, 10))):
            at = draw.randrange(len(text) + 1)
            how = draw.random()
            if how < 0.5:
                text = text[:at] + draw.choice(_PIECES) + text[at:]
            elif how < 0.8:
                text = text[:at] + text[at + draw.randrange(30) :]
            else:
                lines = text.splitlines() or [""]
                text = "\n".join(draw.choice(("", "> ", "[ 1.0] ")) + x for x in lines)
        data = text.encode(draw.choice(_ENCODINGS), "replace")
        return _packed(draw, data)

    def _csv(self, draw: Random) -> bytes:
        rows = self.table.decode().splitlines()
        header, rows = rows[0], draw.sample(rows[1:], min(_MOST_AREAS, len(rows) - 1))
        lines = [row.split(",") for row in (header, *rows)]
        for _ in range(draw.choice((1, 1, 2, 10))):
            # The header says that it is CSV; it is damaged less often.
            cells = lines[draw.randrange(draw.choice((0, 1, 1, 1)), len(lines))]
            at, how = draw.randrange(len(cells)), draw.random()
            if how < 0.7:
                cells[at] = draw.choice((*_CELLS, *_PIECES))
            elif how < 0.9:
                cells[at] += draw.choice((*_CELLS, *_PIECES))
            elif len(cells) > 1:
                del cells[at]
        text = "\n".join(map(",".join, lines)) + "\n"
        return _packed(draw, text.encode("utf-8", "surrogateescape"))

    def _core(self, draw: Random) -> bytes:
        return self.core[
            : draw.choice((4, 16, 64, 200, draw.randrange(len(self.core))))
        ]


def _packed(draw: Random, data: bytes) -> bytes:
    """Return some data packed, and that cut or damaged; most of it as it is."""
    how = draw.choice((*_PACKERS, *(10 * [None])))
    if how is None:
        return data
    packed = bytearray(how(data))
    if draw.random() < 0.5:
        for _ in range(draw.choice((1, 1, 5))):
            packed[draw.randrange(len(packed))] = draw.randrange(256)
    return bytes(packed[: draw.choice((len(packed), draw.randrange(len(packed) + 1)))])


def _gzipped(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def _bundled(data: bytes) -> bytes:
    """Return a support bundle."""
    bundle = io.BytesIO()
    with tarfile.open(fileobj=bundle, mode="w") as archive:
        for name, content in (("vmallocinfo", data), ("meminfo", _MEMINFO)):
            member = tarfile.TarInfo(f"bundle/proc/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return bundle.getvalue()


_PACKERS: Sequence[Callable[[bytes], bytes]] = (
    *(_gzipped, lzma.compress, bz2.compress),
    *(_bundled, lambda data: _gzipped(_bundled(data))),
)


def _other(draw: Random) -> bytes:
    size = draw.choice((0, 1, 10, 1000))
    start = draw.choice(
        (b"", b"KDUMP   ", b"makedumpfile", b"\x7fELF", b"{", b"0x", b"\x1f\x8b")
    )
    return start + bytes(draw.choices(range(256), k=size))


def _places(value: Any) -> Iterator[tuple[Union[dict[str, Any], list[Any]], Any]]:
    """Yield what holds each value in a document, and by what key or index."""
    keys: Sequence[Any] = ()
    if isinstance(value, dict):
        keys = [*value]
    elif isinstance(value, list):
        keys = range(len(value))
    for key in keys:
        yield value, key
        yield from _places(value[key])


def _dumped(document: Any) -> str:
    """Return JSON; ``{"deep": N}`` becomes lists in lists, which Python can't write."""
    text = json.dumps(document, default=str)
    # What stood for a depth may itself have been damaged since.
    deep = _DEEP.search(text)
    if deep:
        depth = int(deep[1])
        text = text[: deep.start()] + "[" * depth + "]" * depth + text[deep.end() :]
    return text
