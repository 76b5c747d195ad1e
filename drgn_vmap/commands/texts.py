# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Texts as people have them: files, packed or not, of any encoding; standard input; and
support bundles, unpacked or as a tar archive.
"""

import argparse
import bz2
import gzip
import io
import lzma
import os
import re
import sys
import tarfile
import zlib
from typing import IO, Callable, Dict, List, NamedTuple, Optional, Tuple, Union

from ..analyses.saved import areas_from_csv, areas_from_json, listable
from ..analyses.saved_text import areas_from_text, text_of_areas
from ..errors import UsageError
from ..model.file_starts import BZIP2, GZIP, VMCORES, XZ, ZIP, ZSTD
from ..model.saved import SavedText

__all__ = ("Text", "is_json", "open_saved", "open_text", "read_text", "saved_text")

STANDARD_INPUT = "-"
_WANTED = "vmallocinfo"
_BESIDE = "meminfo"
_MAX_BYTES = 3 << 29
"""A listing of ten million lines; what is larger is no text of this kind."""
_AT_ONCE = 1 << 20
_CSV_STARTS = b"start,end,size,"

_PACKED: Dict[bytes, Callable[[bytes], "io.BufferedIOBase"]] = {
    GZIP: lambda data: gzip.GzipFile(fileobj=io.BytesIO(data)),
    XZ: lambda data: lzma.LZMAFile(io.BytesIO(data)),
    BZIP2: lambda data: bz2.BZ2File(io.BytesIO(data)),
}
_UNREADABLE = (
    *(OSError, ValueError, EOFError),
    *(zlib.error, lzma.LZMAError, tarfile.TarError),
)
"""What is raised of files that are not there, cut short or damaged."""
# A time stamp of dmesg and a prompt of a shell begin with a bracket as well.
_JSON_START = re.compile(rb"\s*(?:\{|\[\s*[\[{\"\]])")
_UNKNOWN_PACKERS = {ZSTD: "zstd", ZIP: "unzip"}
_ENCODINGS = {
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}


class Text(NamedTuple):
    """What a file holds."""

    name: str
    """Of the file, and where in a bundle it is."""
    data: bytes
    """In UTF-8, or in what it was if that is not known."""
    meminfo: Optional[str]
    """Text of /proc/meminfo, if a bundle has it beside."""


def open_saved(args: argparse.Namespace) -> SavedText:
    """
    Read what --from names.

    :raises UsageError: if it cannot be read, or is no text of areas.
    """
    return open_text(args)[0]


def open_text(args: argparse.Namespace) -> Tuple[SavedText, Optional[str]]:
    """
    Read what --from names, and the /proc/meminfo that a bundle has beside it.

    :raises UsageError: if it cannot be read, or is no text of areas.
    """
    text = read_text(args.saved)
    return saved_text(text, args.snapshot), text.meminfo


def saved_text(text: Text, number: Optional[int] = None) -> SavedText:
    """
    Return what a text says, also if vmap ls made it, in JSON or CSV.

    :param number: Which of several snapshots it holds.
    :raises UsageError: if it is no text of areas.
    """
    areas_from = areas_from_json if is_json(text) else None
    if text.data.startswith(_CSV_STARTS):
        areas_from = areas_from_csv
    if areas_from is None:
        return areas_from_text(text.name, text.data, number)
    decoded = text.data.decode("utf-8", "backslashreplace")
    return text_of_areas(listable(areas_from(text.name, decoded)))


def is_json(text: Text) -> bool:
    """Whether a text may be what ls --json prints, or somebody made of that."""
    return _JSON_START.match(text.data) is not None


def read_text(name: str) -> Text:
    """
    Read a file, standard input if it is ``-``, or find it in a bundle.

    :raises UsageError: if it cannot be read or a bundle has none.
    """
    try:
        if name == STANDARD_INPUT:
            name = "standard input"
            return _opened(name, _bounded(name, sys.stdin.buffer))
        if os.path.isdir(name):
            return _of_directory(name)
        return _opened(name, _read_file(name))
    except _UNREADABLE as e:
        why = getattr(e, "strerror", None) or e
        raise UsageError(
            f"{name or repr(name)} cannot be read ({why}): give a readable file"
        ) from e


def _opened(name: str, data: bytes) -> Text:
    data = _unpacked(name, data)
    if data[257:262] == b"ustar":
        return _of_archive(name, data)
    return Text(name, _in_utf8(data), None)


def _unpacked(name: str, data: bytes) -> bytes:
    for magic, program in _UNKNOWN_PACKERS.items():
        if data.startswith(magic):
            raise UsageError(f"{name} is packed: unpack it with {program} first")
    for magic, opened in _PACKED.items():
        if data.startswith(magic):
            with opened(data) as file:
                return _bounded(name, file, "a packed vmcore: unpack it first")
    return data


def _read_file(path: str) -> bytes:
    with open(path, "rb") as file:
        return _bounded(path, file)


def _bounded(
    name: str,
    file: Union[IO[bytes], "io.BufferedIOBase"],
    of_vmcores: str = "a vmcore: give it with -c",
) -> bytes:
    """
    Read a file that is no larger than a listing can be.

    :param of_vmcores: What to say of a vmcore.
    """
    parts: List[bytes] = []
    total = 0
    while True:
        part = file.read(_AT_ONCE)
        if not part:
            return b"".join(parts)
        if not parts and part.startswith(VMCORES):
            raise UsageError(f"{name} is {of_vmcores}")
        parts.append(part)
        total += len(part)
        if total > _MAX_BYTES:
            raise UsageError(
                f"{name} holds more than {_MAX_BYTES >> 20} MiB, which no listing does: "
                "take the file vmallocinfo out of it and give that"
            )


def _in_utf8(data: bytes) -> bytes:
    for mark, encoding in _ENCODINGS.items():
        if data.startswith(mark):
            return _decoded(data, encoding)
    # Without a mark, every other byte of UTF-16 is zero where a text is ASCII.
    if data[1:64:2].count(0) > 8:
        return _decoded(data, "utf-16-le")
    if data[0:64:2].count(0) > 8:
        return _decoded(data, "utf-16-be")
    return data


def _decoded(data: bytes, encoding: str) -> bytes:
    return data.decode(encoding, "backslashreplace").encode("utf-8", "backslashreplace")


def _of_directory(name: str) -> Text:
    found = [
        os.path.join(folder, file)
        for folder, _, files in sorted(os.walk(name))
        for file in sorted(files)
        if _is_wanted(file, _WANTED)
    ]
    path = _the_one(name, found)
    text = _opened(path, _read_file(path))
    try:
        beside = _read_file(os.path.join(os.path.dirname(path), _BESIDE))
    except OSError:
        return text
    return text._replace(meminfo=beside.decode("utf-8", "replace"))


def _of_archive(name: str, data: bytes) -> Text:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = {one.name: one for one in archive.getmembers() if one.isfile()}
        found = [path for path in members if _is_wanted(path, _WANTED)]
        path = _the_one(name, found)
        beside = members.get(os.path.join(os.path.dirname(path), _BESIDE))
        texts = []
        for member in (members[path], beside):
            file = archive.extractfile(member) if member is not None else None
            texts.append(_bounded(name, file) if file is not None else None)
    found_text, meminfo = texts
    inside = _opened(f"{name}:{path}", found_text or b"")
    if meminfo is None:
        return inside
    return inside._replace(meminfo=meminfo.decode("utf-8", "replace"))


def _is_wanted(path: str, wanted: str) -> bool:
    """Whether a file is a copy of that file in /proc, packed or not."""
    base = os.path.basename(path).lower()
    return base == wanted or (
        base.endswith((wanted, f"{wanted}.txt", f"{wanted}.gz", f"{wanted}.xz"))
    )


def _the_one(name: str, found: List[str]) -> str:
    """Return the file in a bundle that is meant: what /proc had comes first."""
    if not found:
        raise UsageError(f"{name} has no file {_WANTED}: give the file itself")
    in_proc = [path for path in found if f"proc/{_WANTED}" in path]
    chosen = in_proc or found
    if len(chosen) > 1:
        names = ", ".join(chosen[:3])
        raise UsageError(
            f"{name} has {len(chosen)} files of that name: give one ({names})"
        )
    return chosen[0]
