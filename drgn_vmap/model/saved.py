# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Saved
-----

Areas from files, and what differs between two of them.
"""

from dataclasses import dataclass
from typing import (
    Callable,
    Iterable,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Tuple,
    Union,
    overload,
)

from .._numpy import Array, U64Array
from .areas import Area, Problem, Snapshot

__all__ = (
    "SavedAreas",
    "SavedText",
    "Moment",
    "Compared",
    "AreaList",
    "CallerOverTime",
    "OverTime",
    "CallerChange",
    "Difference",
)


@dataclass(frozen=True)
class SavedAreas:
    """Areas that were read from a file."""

    name: str
    """Of the file."""
    kernel: Optional[Mapping[str, object]]
    """What ``ls --json`` says of the kernel; None if the file does not tell."""
    areas: Tuple[Area, ...]
    pointers: str = "raw"
    """What its addresses are, as of :class:`SavedText`."""
    problems: Tuple[Problem, ...] = ()
    """What could not be read."""


@dataclass(frozen=True)
class SavedText:
    """A copy of /proc/vmallocinfo."""

    name: str
    """Of the file."""
    snapshot: Snapshot
    """What it tells, a row of areas a line. The kernel is but an empty shell. Of a
    hashed address the hash stands for the start, and the end is as far behind it as
    the size says."""
    lines: Sequence[str]
    """The lines that were understood, as the kernel printed them."""
    pointers: str
    """What its addresses are: ``raw``, ``hashed``, or ``none``."""
    title: str = ""
    """What stands before this snapshot of several, such as a date."""
    number: int = 1
    count: int = 1
    """How many snapshots the text has, and which one this is."""
    left_out: int = 0
    """Lines of it that were not understood."""


@dataclass(frozen=True)
class Moment:
    """The busy areas of one moment, as columns, to be compared with another's."""

    start: U64Array
    size: U64Array
    """In bytes."""
    pages: U64Array
    caller: Array
    """Index into ``callers``."""
    callers: Tuple[str, ...]
    """Texts of %pS, or what stands for them: kinds of areas that have none."""
    describe: Callable[[Array], Iterable[Area]]
    """Returns some rows as areas."""
    pointers: str = "raw"
    """What its addresses are, as of :class:`SavedText`."""
    owner: Optional[Array] = None
    """Index into ``owners`` of each area; None if owners were not looked for."""
    owners: Tuple[str, ...] = ()
    """Each of them once."""
    is_text: bool = False
    """Whether all that is known is a copy of /proc/vmallocinfo."""
    left_out: int = 0
    """Lines of it that were not understood."""


@dataclass(frozen=True)
class Compared:
    """What one of two files holds."""

    name: str
    moment: Moment
    kernel: Optional[Mapping[str, object]] = None
    """As of :class:`SavedAreas`."""
    problems: Tuple[Problem, ...] = ()
    title: str = ""
    """Of a snapshot, if the file has several."""


class AreaList(Sequence[Area]):
    """Some areas of a moment, described when they are asked for, as they can be many."""

    def __init__(self, moment: Moment, rows: Array) -> None:
        self._moment, self._rows = moment, rows

    @property
    def bytes(self) -> int:
        """What they have together, guard pages included."""
        return int(self._moment.size[self._rows].sum())

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, at: int) -> Area: ...

    @overload
    def __getitem__(self, at: slice) -> List[Area]: ...

    def __getitem__(self, at: Union[int, slice]) -> Union[Area, List[Area]]:
        if isinstance(at, slice):
            return list(self._moment.describe(self._rows[at]))
        row = range(len(self))[at]
        return self[row : row + 1][0]

    def __iter__(self) -> Iterator[Area]:
        return iter(self._moment.describe(self._rows))


@dataclass(frozen=True)
class CallerOverTime:
    """What a caller holds at several moments."""

    caller: str
    areas: Tuple[int, ...]
    bytes: Tuple[int, ...]

    @property
    def growth(self) -> int:
        """Bytes more at the last moment than at the first."""
        return self.bytes[-1] - self.bytes[0]


@dataclass(frozen=True)
class OverTime:
    """What is in use at several moments, and the callers of which that changes."""

    titles: Tuple[str, ...]
    """What stands before each in its text, such as a date."""
    areas: Tuple[int, ...]
    bytes: Tuple[int, ...]
    left_out: Tuple[int, ...]
    """Lines that were not understood."""
    rows: Tuple[CallerOverTime, ...]
    """The largest growth first."""

    @property
    def changed(self) -> bool:
        """Whether anything did."""
        return bool(self.rows)


@dataclass(frozen=True)
class CallerChange:
    """How much more a caller holds than before; negative if it is less."""

    caller: str
    areas: int
    bytes: int
    pages: int


@dataclass(frozen=True)
class Difference:
    """What changed among the busy areas between two moments."""

    common: int
    """Areas that are in both, grown or not."""
    added: AreaList
    """The largest first, as in the following."""
    removed: AreaList
    grown: Tuple[Tuple[Area, Area], ...]
    """Before and after: same start and caller, other size or number of pages."""
    by_caller: Tuple[CallerChange, ...]
    """Callers that hold more or less than before, the largest growth first."""
    by_owner: Tuple[CallerChange, ...] = ()
    """The same of owners, if they are known of both moments."""
    notes: Tuple[str, ...] = ()
    """How areas were matched, if not as they usually are."""
    left_out: int = 0
    """Lines of texts that were not understood: what seems added or removed may not be."""

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.grown)
