# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
OpenMetrics
-----------

Sums of areas for Prometheus. The text is also of its older format, so node_exporter
takes it from a file.
"""

from typing import Dict, Iterable, List, Optional, Tuple

from ..model.areas import Kernel
from ..model.sums import Reconciliation, Top
from .escape import printable

__all__ = ("openmetrics",)

_Sample = Tuple[str, int]
"""Labels, or nothing, and a value."""


def openmetrics(top: Top, found: Reconciliation, kernel: Optional[Kernel]) -> str:
    """
    Return sums as gauges, labelled with what they were summed up by.

    :param kernel: None if all that is known is a saved text.
    """
    lines: List[str] = []
    if kernel:
        labels = _labels(release=kernel.release, layout=kernel.layout)
        lines += _gauge("vmap_kernel_info", "The kernel.", [(labels, 1)])
    lines += _sums("areas", "Areas in use", top, "areas")
    lines += _sums("bytes", "Bytes of addresses in use", top, "bytes")
    lines += _sums("pages", "Pages that areas in use hold", top, "pages")
    if top.left_out:
        help_ = "Lines that were not understood, so that they are in no sum."
        lines += _gauge("vmap_left_out_lines", help_, [("", top.left_out)])
    if found.counter:
        counted = found.counter.pages + found.counter.pending_pages
        help_ = "Pages that the kernel counts as VmallocUsed."
        lines += _gauge("vmap_kernel_counted_pages", help_, [("", counted)])
        help_ = "Pages of the areas that this count is about."
        lines += _gauge("vmap_found_pages", help_, [("", found.summed_pages)])
    return "\n".join([*lines, "# EOF"]) + "\n"


def _sums(name: str, what: str, top: Top, field: str) -> List[str]:
    # Names that differ by what is not printable may look the same, and no label may come
    # twice.
    by: Dict[str, int] = {}
    for row in top.rows:
        labels = _labels(**{top.by: row.key})
        by[labels] = by.get(labels, 0) + getattr(row, field)
    total = [("", getattr(top.total, field))]
    return [
        *_gauge(f"vmap_{top.by}_{name}", f"{what}, by {top.by}.", by.items()),
        *_gauge(f"vmap_{name}", f"{what}, of all.", total),
    ]


def _gauge(name: str, help_: str, samples: Iterable[_Sample]) -> List[str]:
    head = [f"# HELP {name} {help_}", f"# TYPE {name} gauge"]
    return [*head, *(f"{name}{labels} {value}" for labels, value in samples)]


def _labels(**values: str) -> str:
    texts = (f'{name}="{_escaped(value)}"' for name, value in values.items())
    return f"{{{','.join(texts)}}}"


def _escaped(value: str) -> str:
    return printable(value).replace("\\", "\\\\").replace('"', '\\"')
