# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Show what memory holds, read by the kernel's page table and from RAM: on a live
kernel not through /proc/kcore, whose reader returns zeros or another page's
bytes of what vm_map_ram() mapped.

ADDR is a virtual address, with or without 0x; phys:ADDR, a physical one;
page:ADDR, the page of a struct page; START-END, a range as ls prints it; or a
symbol, as NAME or NAME+OFFSET. What digits can spell is an address. It reads
256 bytes, the range, or SIZE; with --area, the whole area that holds ADDR; with
--page, page N of that area or block.

  hex      16 bytes a line, one * for lines that repeat, holes by name
  words    a word a line, with the symbol that it points to
  strings  runs of four or more printable ASCII characters
  raw      the bytes as they are, zeros in holes

No device's memory is read.

  vmap read ffffc90000004010
  vmap read ffffc90000004010 --page 3 --format words
  vmap read ffffc90000004010 --area --format raw -o area.bin

Exit status: 0, or 1 if there is memory that could not be read, or with raw any
hole, or 2 if it cannot.
"""

import argparse
import sys
from contextlib import contextmanager
from dataclasses import replace
from typing import (
    TYPE_CHECKING,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Optional,
    Tuple,
)

from ..analyses.addr import area_around, virtual_addresses
from ..errors import UsageError, VmapError
from ..kernel.vmalloc.callers import CallerNames
from ..kernel.vmalloc.contents import read_contents
from ..kernel.vmalloc.mappings import struct_page_phys
from ..kernel.vmalloc.snapshot import take_areas_around
from ..model.areas import Problem, ProblemKind
from ..model.contents import Piece
from ..model.places import Spot
from ..render.contents import hex_text, pieces_json, strings_text, words_text
from ..render.records import document
from . import EXIT_FOUND, EXIT_OK
from .common import add_json, count, size
from .output import add_output, whole_file
from .places import find_place
from .progress import Progress
from .streams import tell

if TYPE_CHECKING:
    from ..kernel.target import Target

__all__ = ("add_arguments", "check_arguments", "run")

_DEFAULT_BYTES = 256
_MOST_OF_JSON = 16 << 20
_HOLES_TOLD = 10
_MOST_HOLES = 1 << 16
_ZEROS = bytes(1 << 20)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``read``."""
    parser.add_argument(
        "address",
        metavar="ADDR",
        help="an address in hexadecimal, START-END, phys:ADDR, page:ADDR, or "
        "NAME[+OFFSET]",
    )
    parser.add_argument(
        "--length",
        metavar="SIZE",
        type=size,
        help=f"how many bytes, as 4096 or 64K (default: {_DEFAULT_BYTES})",
    )
    part = parser.add_mutually_exclusive_group()
    part.add_argument(
        "--area", action="store_true", help="all of the area that holds ADDR"
    )
    part.add_argument(
        "--page",
        metavar="N",
        type=count,
        help="page N of the area or block that holds ADDR, from 0 on",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--format",
        choices=("hex", "raw", "words", "strings"),
        default="hex",
        help="how to show it (default: hex)",
    )
    add_json(how)
    add_output(parser, "output", required=False)


def check_arguments(args: argparse.Namespace) -> None:
    """See that they make sense together."""
    if args.area and args.length is not None:
        raise UsageError("--area is as long as the area: leave out --length")
    if args.length == 0:
        raise UsageError("no byte is asked for: give a --length of at least 1")


def run(target: "Target", args: argparse.Namespace) -> int:
    """Print or write what memory holds."""
    start, length, physical = _range(target, args)
    with Progress("read", "bytes") as progress:
        holes = _Holes(read_contents(target, start, length, physical, progress.update))
        if args.json:
            if length > _MOST_OF_JSON:
                raise UsageError(f"{length} bytes are too many for --json: use raw")
            body = {
                "start": f"{start:#x}",
                "size": length,
                "pieces": pieces_json(holes),
            }
            text = document("read", target.kernel, holes.problems(), **body)
            _write(target, args.output, [text])
        elif args.format == "raw":
            with whole_file(args.output or "-", target.files, is_memory=True) as file:
                for piece in holes:
                    file.writelines(_raw(piece))
        else:
            _write(target, args.output, _text(target, args.format, holes))
    if args.format != "hex":
        holes.tell()
    is_whole = not (holes.all if args.format == "raw" else holes.problems())
    return EXIT_OK if is_whole else EXIT_FOUND


class _Holes:
    """Passes pieces on, and keeps in mind those without bytes."""

    def __init__(self, pieces: Iterable[Piece]) -> None:
        self._pieces = pieces
        self.all: List[Piece] = []
        """What lies together counts once."""

    def __iter__(self) -> Iterator[Piece]:
        for piece in self._pieces:
            if piece.data is None:
                self._keep(piece)
            yield piece

    def _keep(self, piece: Piece) -> None:
        last = self.all[-1] if self.all else None
        if last and (last.end, last.missing) == (piece.start, piece.missing):
            self.all[-1] = replace(last, size=last.size + piece.size)
        elif len(self.all) < _MOST_HOLES:
            self.all.append(piece)

    def problems(self) -> Tuple[Problem, ...]:
        """Return those where there should be bytes."""
        return tuple(
            Problem(ProblemKind.UNREADABLE, f"{one.start:#x}-{one.end:#x}", one.missing)
            for one in self.all
            if one.is_failure
        )

    def tell(self) -> None:
        """Name all on standard error."""
        for hole in self.all[:_HOLES_TOLD]:
            tell("vmap read", f"{hole.start:#x}-{hole.end:#x}: {hole.missing}")
        if len(self.all) > _HOLES_TOLD:
            tell("vmap read", f"… and {len(self.all) - _HOLES_TOLD} more holes")


def _range(target: "Target", args: argparse.Namespace) -> Tuple[int, int, bool]:
    """Return where to begin, how many bytes to read, and whether that is physical."""
    place = find_place(target, args.address)
    start, physical = place.address, bool(place.kind)
    if place.kind == "page":
        start = struct_page_phys(target, start)
    length = (place.size or _DEFAULT_BYTES) if args.length is None else args.length
    if args.area or args.page is not None:
        if physical:
            raise UsageError("a physical address is in no area: give a virtual one")
        area_start, area_end = _area(target, start)
        if args.area:
            start, length = area_start, area_end - area_start
        else:
            start = area_start + args.page * target.page_size
            if start >= area_end:
                pages = (area_end - area_start) // target.page_size
                raise UsageError(f"the area has {pages} pages: give a lower --page")
            length = args.length or target.page_size
    if args.format == "words" and not args.json:
        start -= start % target.word_size
    return start, min(length, (1 << 64) - start), physical


def _area(target: "Target", address: int) -> Tuple[int, int]:
    addresses = virtual_addresses([Spot(f"{address:#x}", (address,))])
    found = area_around(take_areas_around(target, addresses), address)
    if found is None:
        raise UsageError(f"no area holds {address:#x}: see vmap addr {address:#x}")
    return found


def _text(target: "Target", form: str, pieces: Iterable[Piece]) -> Iterator[str]:
    if form == "strings":
        return strings_text(pieces)
    if form == "hex":
        return hex_text(pieces)
    return words_text(pieces, target.byte_order, target.word_size, _namer(target))


def _namer(target: "Target") -> Callable[[List[int]], Dict[int, str]]:
    try:
        names = CallerNames(target)
    except VmapError:
        return lambda words: {}

    def name(words: List[int]) -> Dict[int, str]:
        # What is no kernel address has no symbol.
        found = names.texts(
            word for word in words if word >> (8 * target.word_size - 1)
        )
        return {word: text for word, text in found.items() if "+" in text}

    return name


def _raw(piece: Piece) -> Iterator[bytes]:
    if piece.data is not None:
        yield piece.data
        return
    for at in range(0, piece.size, len(_ZEROS)):
        yield _ZEROS[: piece.size - at]


def _write(target: "Target", output: Optional[str], texts: Iterable[str]) -> None:
    with _writer(target, output) as write:
        for text in texts:
            write(text)


@contextmanager
def _writer(
    target: "Target", output: Optional[str]
) -> Iterator[Callable[[str], object]]:
    if output is None:
        yield sys.stdout.write
        return
    with whole_file(output, target.files, is_memory=True) as file:
        yield lambda text: file.write(text.encode("utf-8", "backslashreplace"))
