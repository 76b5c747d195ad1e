# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Slicing
-------

Finds the bytes that show a kernel's vmalloc state, by reading all that any verb reads
through a :class:`~drgn_vmap.kernel.memory.recording.Recorder`: types and names, the
areas and blocks in every way they are kept, and the page table. Of what areas map,
only what is such state itself is read, such as arrays of page pointers.
"""

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Callable, Iterator, Optional, Set, Tuple

from drgn import PlatformFlags, Program
from drgn.helpers.linux.cpumask import for_each_online_cpu, for_each_possible_cpu
from drgn.helpers.linux.nodemask import for_each_online_node

from ..._numpy import U64Array, np
from ...errors import GET_DEBUG_INFO, Fault, SymbolsError, TargetError, VmapError
from ...model.areas import Problem, ProblemKind, Snapshot, State
from ...model.core import CoreHead
from ...model.inspection import Inspection
from ..doors import door
from ..memory.direct_map import map_of_tables
from ..memory.recording import Recorder
from ..target import Target
from .activity import activity, activity_note
from .inspection import inspect
from .mappings import struct_page_phys, vmalloc_frames
from .pointers import pointer_policy
from .racing import as_races
from .ranges import module_space, vmalloc_range
from .series import series_signs

__all__ = ("Slice",)

_LIVE_LOOKS = 4
_PIECE_BYTES = 1 << 20
_OTHER_TABLES = 4096
"""Last-level page tables of memory that is no area's: 16 MiB on x86_64."""
_WHILE_RUNNING = ("the kernel was running when the slice was taken",)


@dataclass(frozen=True)
class _Found:
    target: Target
    """The one that has read it."""
    snapshot: Snapshot
    direct_map: int
    direct_end: Optional[int]
    problems: Tuple[Problem, ...]


class Slice:
    """
    The memory of a target that shows its vmalloc state.

    :param with_data: Whether to add the pages that areas in use map.
    :param on_read: Called with the count of pages whenever there are more.
    :raises VmapError: if the target is none that can be read, or if neither it nor a
        vmlinux has types and names.
    """

    def __init__(
        self, target: Target, with_data: bool, on_read: Callable[[int], None]
    ) -> None:
        vmcoreinfo = _vmcoreinfo(target)
        self._recorder = Recorder(target.prog, vmcoreinfo, target.page_size, on_read)
        self.vmlinux = _needed_vmlinux(target, self._recorder)
        """The file that has what this kernel lacks, types or names; None if none."""
        if self.vmlinux:
            self._recorder = Recorder(
                target.prog, vmcoreinfo, target.page_size, on_read, self.vmlinux
            )
        try:
            found = _look(target, self._recorder)
        except Fault as e:
            raise TargetError(
                f"what shows the vmalloc state cannot be read ({e.why}): "
                "take a vmcore that is neither damaged nor cut short"
            ) from e
        self.problems = found.problems
        self.head = _head(found, vmcoreinfo)
        """What a vmcore says besides memory."""
        if with_data:
            self.problems += self._add_data(target, found)
        begins, sizes = self._recorder.spans()
        # If a slice is cut short, names and types, the largest, are what can be had
        # elsewhere.
        order = np.argsort(sizes, kind="stable")
        self.begins: U64Array = begins[order]
        """Physical address where each span of memory begins, the shortest span first."""
        self.sizes: U64Array = sizes[order]
        """Bytes of each span."""

    def contents(self) -> Iterator[bytes]:
        """
        Yield what the spans hold, in their order.

        :raises Fault: if it cannot be read any more.
        """
        for begin, size in zip(self.begins.tolist(), self.sizes.tolist()):
            end = begin + size
            for at in range(begin, end, _PIECE_BYTES):
                with door():
                    piece = self._recorder.contents(at, min(_PIECE_BYTES, end - at))
                yield piece

    def _add_data(self, target: Target, found: _Found) -> Tuple[Problem, ...]:
        """Add the pages that areas in use map; return what of them is not there."""
        frames = _data_frames(found.target, found.snapshot)
        left_out = target.left_out.among(frames * np.uint64(target.page_size))
        missing = int(left_out.sum()) + sum(
            not self._recorder.note(frame) for frame in frames[~left_out].tolist()
        )
        if not missing:
            return ()
        detail = f"{missing} of their pages are not in the target"
        return (Problem(ProblemKind.UNREADABLE, "data of areas", detail),)


def _needed_vmlinux(target: Target, recorder: Recorder) -> Optional[str]:
    """
    Return the vmlinux without which nobody can read a slice, None if anybody can.

    :raises SymbolsError: if one is needed and there is none.
    """
    carried = Target(recorder.start())
    if carried.has_types:
        return None
    # Others than DWARF are in no file that a slice can be opened with.
    if not target.has_dwarf:
        carried.need_layout()
    return target.prog.main_module().debug_file_path


def _look(target: Target, recorder: Recorder) -> _Found:
    """
    Read all there is. What is read of a live kernel is then fetched again in one go
    and read from there, until nothing is odd about it.
    """
    if not target.live:
        return _read(recorder.start(), lambda: None)
    constant: Set[int] = set()

    def names_are_read() -> None:
        constant.update(recorder.frames())

    for look in range(_LIVE_LOOKS):
        try:
            found = _read(recorder.start(), names_are_read)
        except TargetError:
            if look == _LIVE_LOOKS - 1:
                raise
        else:
            if look and not found.problems:
                break
        if look < _LIVE_LOOKS - 1:
            recorder.refresh(constant)
    return replace(found, problems=as_races(found.target.kernel, found.problems))


def _read(program: Program, names_are_read: Callable[[], None]) -> _Found:
    """Read what any verb reads."""
    target = Target(program)
    names_are_read()
    found = inspect(target)
    vmalloc_range(target)
    with suppress(VmapError):
        module_space(target)
    pointer_policy(target)
    series_signs(target)
    _read_struct_pages(target)
    _read_masks(target)
    areas = found.snapshot.areas
    held = np.flatnonzero(areas.state != State.FREE)
    held = held[np.argsort(areas.start[held], kind="stable")]
    lost = target.page_table.load(areas.start[held], areas.end[held], _OTHER_TABLES)
    problems = (*found.snapshot.problems, *found.blocks.problems, *lost)
    problems = tuple(dict.fromkeys(problems))
    return _Found(target, found.snapshot, *_direct_map(target, found), problems)


def _read_struct_pages(target: Target) -> None:
    """Read what tells where struct pages are, if anything does."""
    try:
        struct_page_phys(target, target.frames.first)
    except VmapError:
        pass


def _read_masks(target: Target) -> None:
    """Read what drgn's own helpers go through CPUs and NUMA nodes by, if they can."""
    for ids in (for_each_possible_cpu, for_each_online_cpu, for_each_online_node):
        with suppress(Fault), door():
            tuple(ids(target.prog))


def _direct_map(target: Target, found: Inspection) -> Tuple[int, Optional[int]]:
    """
    Return where physical address 0 is mapped, and up to which one that is to be told.

    All struct vmap_area are slab objects, so each of them tells; 0 if they do not agree,
    and then drgn has to go through the page table for each address.
    """
    part = map_of_tables(target.prog)
    if part:
        return (part.start - part.phys) % (1 << 64), part.phys + part.size
    # There are no trees if areas are kept in lists alone.
    none = np.empty(0, np.uint64)
    addresses = np.concatenate([none, *(tree.address for tree in found.trees)])
    at = target.page_table.translate(addresses)
    offsets = np.unique(addresses[at.present] - at.phys[at.present])
    return (int(offsets[0]) if len(offsets) == 1 else 0), None


def _data_frames(target: Target, snapshot: Snapshot) -> U64Array:
    """Return the frames that areas in use map; device memory is none of them."""
    frames, _ = vmalloc_frames(target, snapshot)
    return np.empty(0, np.uint64) if frames is None else frames


def _vmcoreinfo(target: Target) -> bytes:
    """Return VMCOREINFO, and behind the note of slices what this kernel's lacks."""
    known = target.vmcoreinfo
    if known.is_slice:
        return known.raw
    lines = [activity_note(_WHILE_RUNNING if target.live else activity(target))]
    # Until Linux kernel commit f09bddbd8661 ("vmcoreinfo: add kallsyms_num_syms
    # symbol") (in v6.0), it does not say where the symbol tables are.
    tables = target.carried.kallsyms_tables
    if tables is None:
        raise SymbolsError(
            "where this kernel's symbol table is (before Linux 6.0) was not found out: "
            f"{GET_DEBUG_INFO}"
        )
    for name, address in tables.items():
        if name not in known.symbols:
            lines.append(f"SYMBOL({name})={address:x}\n")
    return known.raw.rstrip(b"\n") + b"\n" + "".join(lines).encode()


def _head(found: _Found, vmcoreinfo: bytes) -> CoreHead:
    platform = found.target.prog.platform
    assert platform is not None
    return CoreHead(
        machine=platform.arch.name,
        is_64_bit=bool(platform.flags & PlatformFlags.IS_64_BIT),
        is_little_endian=bool(platform.flags & PlatformFlags.IS_LITTLE_ENDIAN),
        vmcoreinfo=vmcoreinfo,
        page_size=found.target.page_size,
        direct_map=found.direct_map,
        direct_end=found.direct_end,
    )
