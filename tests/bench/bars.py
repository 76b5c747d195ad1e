# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""How fast it is meant to be, beside what was measured in one run."""

from __future__ import annotations

from typing import Any, Callable, Iterator

__all__ = ("bars",)

Row = list[str]
Figure = Callable[[str], float]
"""Returns a figure in ``seconds``, or in ``cpu_seconds``."""

COMPARED = 200_000
MANY = 1_000_000
TIMES_FASTER = {"6.1": 14}
"""Than drgn's own listing, the whole command; 12 times on others."""
STRAIGHT = 1.5
"""Times as much an area among many as among fewer: caches are of one size."""


def bars(kernel: str, results: list[dict[str, Any]]) -> Iterator[Row]:
    """Yield a row for each thing that is to hold and that was measured."""
    by_areas = {
        result["made"]: result
        for result in results
        if result["kernel"] == kernel and not result["blocks"]
    }
    compared = by_areas.get(COMPARED)
    if compared:
        yield from _beside_others(kernel, compared)
        yield from _live(kernel, compared)
        yield from _compressed(kernel, compared)
    if {0, COMPARED, MANY} <= by_areas.keys():
        yield from _straight(kernel, by_areas)
    if 0 in by_areas:
        elf = by_areas[0]["vmcores"]["elf"]
        for command in ("--help", "ls"):
            name = f"start-up, {command}: seconds beyond drgn's own"
            yield _row(kernel, name, _beyond(elf, command), at_most=0.3)
    by_blocks = {
        result["blocks"]: result["vmcores"]["elf"]
        for result in results
        if result["kernel"] == kernel and not result["made"]
    }
    if len(by_blocks) > 2:
        yield _blocks(kernel, by_blocks)


def _beside_others(kernel: str, result: dict[str, Any]) -> Iterator[Row]:
    elf = result["vmcores"]["elf"]
    bounds = (
        ("vmap ls", "%crash kmem -v", TIMES_FASTER.get(kernel, 12)),
        ("ls", "%crash kmem -v", 6),
        ("ls", "crash kmem -v", 8),
    )
    for ours, other, bound in bounds:
        if other in elf:
            name = f"{COMPARED} areas: {other}, times as long as {ours}"
            yield _row(
                kernel, name, lambda unit: elf[other][unit] / elf[ours][unit], bound
            )
    name = f"{COMPARED} areas: seconds beyond drgn's own start"
    yield _row(kernel, name, _beyond(elf, "ls"), at_most=1.0)


def _live(kernel: str, result: dict[str, Any]) -> Iterator[Row]:
    live = result["live_seconds"]
    for command in ("ls", "vmap ls") if live else ():
        name = f"{COMPARED} areas, live: cat, times as long as {command}"
        took = live["cat"] / live[command]
        yield [kernel, name, f"{took:.2f}", "", "over 1", _verdict(took > 1)]


def _compressed(kernel: str, result: dict[str, Any]) -> Iterator[Row]:
    elf = result["vmcores"]["elf"]["ls"]
    unpacking = result["decompression"]["seconds"]
    for format_ in ("kdump", "kdump-zlib"):
        kdump = result["vmcores"][format_]["ls"]
        name = f"{format_} beyond decompression, times as long as ELF"
        yield _row(
            kernel,
            name,
            lambda unit: (kdump[unit] - unpacking) / elf[unit],
            at_most=1.5,
        )


def _blocks(kernel: str, by_blocks: dict[int, dict[str, Any]]) -> Row:
    none, some, *_, many = sorted(by_blocks)

    def slopes(unit: str) -> float:
        first, second, third = (
            by_blocks[blocks]["blocks"][unit] for blocks in (none, some, many)
        )
        return float((third - second) / (many - some) / ((second - first) / some))

    name = f"a block of {many}, times as long as one of {some}"
    return _row(kernel, name, slopes, at_most=STRAIGHT)


def _straight(kernel: str, by_areas: dict[int, dict[str, Any]]) -> Iterator[Row]:
    none, some, many = (
        by_areas[areas]["vmcores"]["elf"] for areas in (0, COMPARED, MANY)
    )

    def slopes(unit: str) -> float:
        less = (some["ls"][unit] - none["ls"][unit]) / COMPARED
        return (many["ls"][unit] - some["ls"][unit]) / (MANY - COMPARED) / less

    name = f"an area of {MANY}, times as long as one of {COMPARED}"
    yield _row(kernel, name, slopes, at_most=STRAIGHT)
    for fewer, areas, figures in ((0, COMPARED, some), (COMPARED, MANY, many)):
        before = (none if not fewer else some)["ls"]["peak_mib"]
        peak = (figures["ls"]["peak_mib"] - before) * (1 << 20) / (areas - fewer)
        name = f"bytes of peak memory an area, from {fewer} to {areas}"
        yield [kernel, name, f"{peak:.0f}", "", "at most 400", _verdict(peak <= 400)]


def _beyond(figures: dict[str, Any], command: str) -> Figure:
    return lambda unit: float(figures[command][unit] - figures["drgn alone"][unit])


def _row(
    kernel: str,
    name: str,
    figure: Figure,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Row:
    found = [figure(unit) for unit in ("seconds", "cpu_seconds")]
    if at_least is not None:
        bound, holds = f"at least {at_least:g}", [one >= at_least for one in found]
    else:
        assert at_most is not None
        bound, holds = f"at most {at_most:g}", [one <= at_most for one in found]
    verdict = _verdict(holds[0])
    if holds == [False, True]:
        verdict = "holds in CPU time only"
    return [kernel, name, *(f"{one:.2f}" for one in found), bound, verdict]


def _verdict(holds: bool) -> str:
    return "holds" if holds else "does not hold"
