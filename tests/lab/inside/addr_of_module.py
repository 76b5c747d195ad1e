# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Ask `vmap addr` about pages of the fixture module; drgn runs this in a guest.

Prints JSON: the documents for virtual and for physical addresses, and the virtual
addresses where /proc/kcore did not return what was said.
"""

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any, Dict, List

from drgn import Program

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from drgn_vmap.commands import run  # noqa: E402

PAGE = 4096
prog: Program = globals()["prog"]


def ask(addresses: List[str]) -> Any:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        status = run("addr", prog, ["--json", *addresses])
    assert status == 0, status
    return json.loads(out.getvalue())


def mappings() -> List[Dict[str, str]]:
    lines = Path("/proc/vmap_lab").read_text().splitlines()
    maps = [line.split()[1:] for line in lines if line.startswith("map ")]
    return [dict(field.split("=") for field in fields) for fields in maps]


def source(place: Any) -> str:
    """Return the address of the page whose bytes /proc/kcore was said to return."""
    if place["kcore"]["returns"] == "other-page":
        return hex(int(place["area"]["start"], 16) + place["kcore"]["page"] * PAGE)
    return str(place["address"])


def told_wrong(places: List[Any]) -> List[str]:
    """Return the addresses for which kcore, which drgn reads, holds other bytes."""
    told = [place for place in places if place["kcore"]["returns"] != "undefined"]
    sources = {source(place) for place in told}
    phys = {
        one["address"]: one.get("phys") for one in ask(sorted(sources))["addresses"]
    }
    wrong = []
    for place in told:
        expected = bytes(PAGE)
        if place["kcore"]["returns"] != "zeros":
            frame = int(phys[source(place)], 16)
            expected = prog.read(frame, PAGE, physical=True)
        if prog.read(int(place["address"], 16), PAGE) != expected:
            wrong.append(place["address"])
    return wrong


virtual, physical = [], []
for one in mappings():
    start, pages = int(one["addr"], 16), int(one["pages"])
    # Of large ones only some pages: emulated guests are slow.
    step = 1 if pages <= 100 else 16
    virtual += [hex(start + at * PAGE) for at in range(0, pages, step)]
    first = one["pfns"].replace(",", "-").split("-")[0]
    if one["state"] == "live":
        physical.append(f"phys:{int(first) * PAGE + 8:x}")
document = ask(virtual)
result = {
    "virtual": document,
    "physical": ask(physical),
    "told_wrong": told_wrong(document["addresses"]),
}
print(json.dumps(result))
