# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Kallsyms of kernels that do not say where it is
-----------------------------------------------

VMCOREINFO has the addresses of the symbol table since 6.0. Before, the table is found in
the kernel image by what it is like (scripts/kallsyms.c): its parts check each other, and
it must have the symbols that VMCOREINFO does have at the addresses that it says.
"""

from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

from drgn import PlatformFlags, Program

from ..._numpy import Array, np
from ...errors import Fault
from ..doors import door
from .heads import NAMES_A_MARKER, TOKENS
from .names import PackedNames

__all__ = ("search_tables",)

_CHUNK = 1 << 20
_PAGE = 4096
_STEP = 32 << 20
"""Bytes of an image in which names are looked for before more of it is read."""
_MAX_IMAGE = 256 << 20
_MAX_HOLE = 16 << 20
"""Bytes within an image that are not there, such as of what is freed behind its start."""

_DIGITS = b"".join(b"%c\0" % digit for digit in b"0123456789")
"""Tokens of digits stand for themselves: no kernel is without names that have them."""
_LONGEST_TOKEN = 64
_LANE = (2 * NAMES_A_MARKER, 512 * NAMES_A_MARKER)
"""Bytes of so many names, at least and at most."""
_MARKERS_TOLD_BY = 8
_NAMES_BEFORE = 16 << 20
"""Bytes before the tokens in which the names are."""


class _Image(NamedTuple):
    """The memory of a kernel image; zeros where there is none."""

    start: int
    data: bytes
    order: str
    """``<`` or ``>``."""
    word: int
    """Bytes of a pointer."""

    def numbers(self, at: int, count: int, size: int) -> Array:
        """Return numbers of this size; fewer if the image ends before."""
        count = max(min(count, (len(self.data) - at) // size), 0)
        return np.frombuffer(self.data, f"{self.order}u{size}", count, at)

    def places(self, at: int) -> List[int]:
        """
        Return where the next part of the table may begin: parts are aligned to the size
        of a pointer, or those of small numbers and texts to that of an int.
        """
        return sorted({-(-at // size) * size for size in (4, self.word)})


class _Tokens(NamedTuple):
    table_at: int
    index_at: int
    texts: List[bytes]


class _Names(NamedTuple):
    number_at: int
    start: int
    names: PackedNames


def search_tables(
    prog: Program, stext: int, is_right: Callable[[Dict[str, int]], bool]
) -> Optional[Dict[str, int]]:
    """
    Return the address of each part of the symbol table, as VMCOREINFO of newer kernels
    has them; None if none is found.

    :param stext: Address of ``_stext``, where the kernel image begins.
    :param is_right: Tells whether what is read by such addresses can be.
    """
    if prog.platform is None:
        return None
    flags = prog.platform.flags
    start = stext - stext % _PAGE
    for data in _images(prog, start):
        image = _Image(
            start=start,
            data=data,
            order="<" if flags & PlatformFlags.IS_LITTLE_ENDIAN else ">",
            word=8 if flags & PlatformFlags.IS_64_BIT else 4,
        )
        for tokens in _find_tokens(image):
            for names in _find_names(image, tokens):
                for places in _layouts(image, tokens, names):
                    tables = {name: start + at for name, at in places.items()}
                    if is_right(tables):
                        return tables
    return None


def _images(prog: Program, start: int) -> Iterator[bytes]:
    """
    Yield a kernel image from its text on, each time a larger part of it: nothing tells
    where it ends, and on some architectures other memory follows.
    """
    data = bytearray()
    read = end = seen = 0
    while read < min(end + _MAX_HOLE, _MAX_IMAGE):
        chunk = _read_chunk(prog, start + read)
        read += _CHUNK
        if chunk is not None:
            data.extend(bytes(read - _CHUNK - end) + chunk)
            end = read
        if end - seen >= _STEP:
            yield bytes(data)
            seen = end
    if end > seen:
        yield bytes(data)


def _read_chunk(prog: Program, start: int) -> Optional[bytes]:
    """Return a chunk, zeros where it is not there; None if nothing of it is."""
    whole = _read(prog, start, _CHUNK)
    if whole is not None:
        return whole
    pages = [_read(prog, at, _PAGE) for at in range(start, start + _CHUNK, _PAGE)]
    if not any(pages):
        return None
    return b"".join(page or bytes(_PAGE) for page in pages)


def _read(prog: Program, address: int, size: int) -> Optional[bytes]:
    try:
        with door():
            return prog.read(address, size)
    except Fault:
        return None


def _find_tokens(image: _Image) -> Iterator[_Tokens]:
    """Find tables of 256 texts, behind which their offsets are."""
    data = image.data
    at = data.find(_DIGITS)
    while at >= 0:
        end = at - 1
        for _ in range(ord("0") - 1):
            end = data.rfind(b"\0", 0, max(end, 0))
        first = max(data.rfind(b"\0", 0, max(end, 0)) + 1, end - _LONGEST_TOKEN)
        for start in range(image.places(first)[0], end, 4):
            end_at = start + TOKENS * _LONGEST_TOKEN
            texts = data[start:end_at].split(b"\0", TOKENS)[:TOKENS]
            lengths = [len(text) + 1 for text in texts]
            offsets = np.cumsum([0, *lengths])[:-1]
            for index in image.places(start + sum(lengths)):
                indexed = np.array_equal(image.numbers(index, TOKENS, 2), offsets)
                if indexed and _are_made_of_others(texts):
                    yield _Tokens(start, index, texts)
        at = data.find(_DIGITS, at + 1)


def _are_made_of_others(texts: List[bytes]) -> bool:
    """Return whether each text is its own byte, or two others in a row."""
    known = set(texts)

    def is_made(code: int, text: bytes) -> bool:
        if len(text) < 2:
            # A byte that is in no name stands for nothing.
            return text in (b"", bytes([code]))
        cuts = range(1, len(text))
        return any(text[:cut] in known and text[cut:] in known for cut in cuts)

    return all(map(is_made, range(TOKENS), texts))


def _find_names(image: _Image, tokens: _Tokens) -> Iterator[_Names]:
    """Find names whose markers tell where each 256th begins, and their number."""
    low = max(image.places(tokens.table_at - _NAMES_BEFORE)[-1], 0)
    # Until Linux kernel commit 80ffbaa5b1bd ("kallsyms: reduce size a little on
    # 64-bit") (in v4.20), markers have the size of a pointer.
    for size in {4, image.word}:
        numbers = image.numbers(low, (tokens.table_at - low) // size, size)
        for first, lanes in _runs(numbers.astype(np.int64)):
            markers = numbers[first : first + lanes].astype(np.int64)
            end = low + first * size
            # Behind the last marker's there are names still.
            near = end - int(markers[-1]) - _LANE[1]
            for number_at, count in _counts(image, max(near // 4 * 4, low), end, lanes):
                for start in image.places(number_at + 4):
                    names = _names_at(image, start, end, count, tokens)
                    if names is not None and _are_marked(names, markers):
                        yield _Names(number_at, start, names)


def _are_marked(names: PackedNames, markers: Array) -> bool:
    used = -(-len(names) // NAMES_A_MARKER)
    return np.array_equal(names.starts[::NAMES_A_MARKER], markers[:used])


def _runs(numbers: Array) -> Iterator[Tuple[int, int]]:
    """Yield where numbers begin that ascend from 0 as markers do, and how many."""
    if len(numbers) <= _MARKERS_TOLD_BY:
        return
    step = np.diff(numbers)
    usual = (step >= _LANE[0]) & (step <= _LANE[1])
    begins = numbers[:-_MARKERS_TOLD_BY] == 0
    for at in range(_MARKERS_TOLD_BY - 1):
        begins &= usual[at : at + len(begins)]
    breaks = np.append(np.flatnonzero(~usual), len(usual))
    for first in np.flatnonzero(begins).tolist():
        yield first, int(breaks[np.searchsorted(breaks, first)]) - first + 1


def _counts(image: _Image, low: int, end: int, lanes: int) -> Iterator[Tuple[int, int]]:
    """Yield where numbers are that may be how many names so many markers are of."""
    numbers = image.numbers(low, (end - low) // 4, 4)
    fits = numbers > (lanes - 1) * NAMES_A_MARKER
    fits &= numbers <= lanes * NAMES_A_MARKER
    for at in np.flatnonzero(fits).tolist():
        yield low + at * 4, int(numbers[at])


def _names_at(
    image: _Image, start: int, end: int, count: int, tokens: _Tokens
) -> Optional[PackedNames]:
    data = image.data[start:end]
    if len(data) < 2 * count:
        return None
    try:
        return PackedNames(data, count, tokens.texts, image.order)
    except IndexError:
        return None


def _layouts(image: _Image, tokens: _Tokens, names: _Names) -> Iterator[Dict[str, int]]:
    """Yield where addresses may be: before the names, or behind the tokens."""
    count, word = len(names.names), image.word
    tables = {
        "kallsyms_names": names.start,
        "kallsyms_token_table": tokens.table_at,
        "kallsyms_token_index": tokens.index_at,
        "kallsyms_num_syms": names.number_at,
    }
    base = names.number_at - word
    before = (base - 4 * count) // word * word
    yield {**tables, "kallsyms_offsets": before, "kallsyms_relative_base": base}
    yield {**tables, "kallsyms_addresses": names.number_at - word * count}
    # Since Linux kernel commit 404bad70fcf7 ("scripts/kallsyms: change the output
    # order") (in v6.4).
    for behind in image.places(tokens.index_at + 2 * TOKENS):
        yield {**tables, "kallsyms_offsets": behind}
        yield {**tables, "kallsyms_addresses": behind}
        for base in image.places(behind + 4 * count):
            yield {**tables, "kallsyms_offsets": behind, "kallsyms_relative_base": base}
