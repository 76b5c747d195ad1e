# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Doors
-----

Where a target's values enter the program. Whatever a target holds may be damaged, so
each of them is bounded and made an ``int`` here, or becomes a
:class:`~drgn_vmap.errors.Fault`; who is above these doors needs no ``try`` for what
drgn raises. Bytes enter through :class:`~drgn_vmap.kernel.memory.bulk.Memory`.
"""

from contextlib import contextmanager
from typing import Callable, Iterator, Optional, Tuple, TypeVar

from drgn import (
    Architecture,
    FaultError,
    Object,
    ObjectAbsentError,
    Program,
    TypeKind,
    sizeof,
)

from .._drgn import BAD_DATA
from ..errors import Fault, SymbolsError
from ..model.tags import Tags

__all__ = ("UNREADABLE", "Values", "architecture_of", "door", "tags_of")

UNREADABLE = (
    *BAD_DATA,
    FaultError,
    NotImplementedError,
    OSError,
    OverflowError,
    TypeError,
    ValueError,
)
"""
What drgn raises of memory that is not there or not in the file, of pointers and types that
are damaged, and of page tables that it does not know.
"""

_MAX_WORDS = 1 << 10
"""More than any bitmap of CPUs or NUMA nodes has."""

_Found = TypeVar("_Found")


@contextmanager
def door() -> Iterator[None]:
    """
    Read through drgn.

    :raises Fault: if that cannot be read.
    """
    try:
        yield
    except (AttributeError, LookupError, *UNREADABLE) as e:
        raise Fault(str(e)) from e
    except SymbolsError as e:
        # A type that is lost, which our own finders find out while drgn reads.
        raise Fault(str(e).partition(": ")[0]) from e


def architecture_of(prog: Program) -> Optional[Architecture]:
    """Return the architecture of a program; None if it has nothing open."""
    return prog.platform.arch if prog.platform else None


def tags_of(prog: Program) -> Tags:
    """
    Return what takes the tags off a kernel's pointers.

    Nothing in memory tells for sure which kernel of arm64 has some; drgn looks past them on
    each.
    """
    return Tags(architecture_of(prog) == Architecture.AARCH64)


class Values:
    """
    The values of a kernel's variables, by expressions such as
    ``lambda prog: prog["vmap_lazy_nr"].counter``.
    """

    def __init__(self, prog: Program) -> None:
        self.prog = prog
        self._tags = tags_of(prog)

    def number(self, expression: Callable[[Program], Object]) -> Optional[int]:
        """
        Return a number, or the address that a pointer holds.

        :return: None if this kernel has no such variable, member or constant.
        :raises Fault: if it cannot be read.
        """
        return self._ask(lambda prog: self._number(expression(prog)))

    def address(self, name: str, filename: Optional[str] = None) -> Optional[int]:
        """
        Return the address of a variable.

        :param filename: Where it is defined, if others have the same name.
        :return: None if this kernel has no such variable, or none that is in memory.
        """
        return self._ask(lambda prog: _variable(prog, name, filename).address_)

    def text(self, expression: Callable[[Program], Object]) -> Optional[str]:
        """
        Return a string.

        :return: None if this kernel has no such variable.
        :raises Fault: if it cannot be read.
        """
        raw = self._ask(lambda prog: expression(prog).string_())
        return None if raw is None else raw.decode("utf-8", "backslashreplace")

    def bits(
        self, expression: Callable[[Program], Object]
    ) -> Optional[Tuple[int, ...]]:
        """
        Return which bits of a bitmap are set, an array of ``unsigned long``.

        :return: Ascending; None if this kernel has no such variable.
        :raises Fault: if it cannot be read.
        """
        return self._ask(lambda prog: _set_bits(expression(prog)))

    def need(self, name: str, found: Optional[_Found]) -> _Found:
        """
        Return what was found.

        :param name: Of the variable that was asked for.
        :raises SymbolsError: if that is nothing.
        """
        if found is None:
            raise SymbolsError(
                f"{name} is not known of this kernel: install its debug info, or name "
                "its vmlinux with -s"
            )
        return found

    def _number(self, found: Object) -> int:
        number = int(found.value_())
        is_pointer = found.type_.kind == TypeKind.POINTER
        return self._tags.off(number) if is_pointer else number

    def _ask(self, expression: Callable[[Program], _Found]) -> Optional[_Found]:
        with door():
            try:
                return expression(self.prog)
            # A compiler may keep a variable that never changes nowhere.
            except (AttributeError, LookupError, ObjectAbsentError):
                return None


def _set_bits(bitmap: Object) -> Tuple[int, ...]:
    if (bitmap.type_.length or 0) > _MAX_WORDS:
        raise ValueError(f"a bitmap of {bitmap.type_.length} words")
    word_bits = 8 * sizeof(bitmap.type_.type)
    words = enumerate(bitmap.value_())
    bitmap_bits = sum(word << index * word_bits for index, word in words)
    return tuple(
        bit for bit in range(bitmap_bits.bit_length()) if bitmap_bits >> bit & 1
    )


def _variable(prog: Program, name: str, filename: Optional[str]) -> Object:
    return prog.variable(name, filename) if filename else prog[name]
