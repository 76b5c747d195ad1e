# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Read what the fixture module mapped through drgn, as it is, with direct reads, and with
these off again; drgn runs this in a guest.

It pokes a list, a struct and a string into pages of a block. Prints JSON: what each way
of reading made of all of it; and with an argument, for so many seconds, what was raised
meanwhile, while areas come and go.
"""

import json
import random
import re
import struct
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List

from drgn import FaultError, Object, Program
from drgn.helpers.linux.list import list_for_each
from drgn.helpers.linux.mm import follow_phys

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from drgn_vmap import load_types, use_direct_reads
from tests.lab.truth import Mapping, Truth, address_of, page_bytes

PAGE = 4096
LAB = Path("/proc/vmap_lab")
TEXT = b"a string that lies across the border of two pages of one block"
SECONDS, NANOSECONDS = 1234567890, 987654321
prog: Program = globals()["prog"]


def poke(address: int, data: bytes) -> None:
    for at in range(0, len(data), 8):
        (word,) = struct.unpack_from(
            "=q", data.ljust(-(-len(data) // 8) * 8, b"\0"), at
        )
        LAB.write_text(f"poke {address + at} {word}")


def outcome(read: Any) -> Any:
    """Return what a call returns, or the name of what it raises."""
    try:
        return read()
    except FaultError:
        return "FaultError"
    except Exception as e:
        return f"{type(e).__name__}: {e}"


class Poked:
    """A list, a struct and a string in pages of a block, behind its first used one."""

    def __init__(self, mapping: Mapping) -> None:
        start = mapping.address
        self.nodes = [start + 64, start + PAGE + 128, start + 2 * PAGE + 256]
        links = [*self.nodes, self.nodes[0], self.nodes[1]]
        for index, node in enumerate(self.nodes):
            poke(node, struct.pack("=QQ", links[index + 1], links[index - 3 + 2]))
        self.time = start + PAGE + 512
        poke(self.time, struct.pack("=QQ", SECONDS, NANOSECONDS))
        self.text = start + 2 * PAGE - 24
        poke(self.text, TEXT + b"\0")
        self.pages = {start + index * PAGE for index in range(mapping.pages)}

    def read(self) -> Dict[str, Any]:
        head = Object(prog, "struct list_head *", self.nodes[0])
        time_ = Object(prog, "struct timespec64", address=self.time)
        text = Object(prog, "char *", self.text)
        return {
            "list": outcome(lambda: [n.value_() for n in list_for_each(head)]),
            "struct": outcome(lambda: str(time_)),
            "string": outcome(lambda: text.string_().decode()),
        }


def read_pages(mappings: List[Mapping], but_for: Any) -> Dict[str, int]:
    """Return how many pages came back right, wrong, and not at all."""
    counts = Counter({"right": 0, "wrong": 0, "fault": 0})
    for one in mappings:
        for index in range(one.pages):
            at = one.address + index * PAGE
            if at in but_for:
                continue
            page = outcome(lambda: prog.read(at, PAGE))
            assert one.fill is not None
            if page == "FaultError":
                counts["fault"] += 1
            else:
                right = page == page_bytes(one.fill, index, PAGE)
                counts["right" if right else "wrong"] += 1
    return counts


def read_at_once(one: Mapping) -> bool:
    """Read a mapping in one piece, from within its first page to within its last."""
    whole = b"".join(page_bytes(one.fill or 0, i, PAGE) for i in range(one.pages))
    return prog.read(one.address + 24, len(whole) - 48) == whole[24:-24]


def per_cpu_pages() -> List[int]:
    found: List[int] = []
    for line in Path("/proc/vmallocinfo").read_text().splitlines():
        area = re.match(r"0x(\w+)-0x(\w+) +\d+ pcpu_get_vm_areas\+", line)
        if area:
            found += range(address_of(area[1]), address_of(area[2]), PAGE)
    return found


def like_memory(pages: List[int]) -> Dict[str, int]:
    """Compare pages that drgn's own walk finds, and may change, with what memory holds."""
    init_mm = prog["init_mm"].address_of_()
    counts: Counter[str] = Counter()
    for at in pages:
        phys = outcome(lambda: follow_phys(init_mm, at).value_())
        for _ in range(10):
            page = outcome(lambda: prog.read(at, PAGE))
            if phys == "FaultError" or page == prog.read(phys, PAGE, True):
                break
        else:
            counts["other"] += 1
            continue
        counts["fault" if page == "FaultError" else "like memory"] += 1
    return dict(counts)


def module_text() -> int:
    (line,) = re.findall(
        r"^vmap_lab .* (0x\w+)", Path("/proc/modules").read_text(), re.M
    )
    return int(line, 16)


def look() -> Dict[str, Any]:
    """Read all that is asked for, as drgn now does."""
    return {
        "ram": read_pages([m for m in filled if m.kind == "vm_map_ram"], poked.pages),
        "others": read_pages([m for m in filled if m.kind != "vm_map_ram"], ()),
        "module": prog.read(module_text(), 2 * PAGE).hex(),
        **poked.read(),
    }


def under_stress(seconds: float) -> Dict[str, Any]:
    """Read pages that come and go; what stays is right each time."""
    draw, raised, reads, wrong = random.Random(1), Counter[str](), 0, 0
    stay = [m for m in filled if m.area == "own" and m.kind == "vm_map_ram"]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        text = Path("/proc/vmallocinfo").read_text()
        areas = re.findall(r"^0x(\w+)-0x(\w+) +(\d+) (?!.*ioremap)", text, re.M)
        for start, _, size in draw.sample(areas, min(len(areas), 40)):
            at = int(start, 16) + draw.randrange(int(size))
            got = outcome(lambda: len(prog.read(at, draw.choice((8, 4096, 20000)))))
            raised[got if isinstance(got, str) else "none"] += 1
        one = draw.choice(stay)
        reads += 1
        wrong += not read_at_once(one)
    return {"raised": dict(raised), "reads": reads, "wrong": wrong}


# Where there is no debug info.
load_types(prog)
truth = Truth.parse(LAB.read_text())
filled = [m for m in truth.mappings if m.live and m.fill]
if sys.argv[1:]:
    assert use_direct_reads(prog)
    print(json.dumps(under_stress(float(sys.argv[1]))))
    raise SystemExit
starts = {m.address for m in filled}
# What lies next to it in the block begins before it.
poked = Poked(
    next(m for m in filled if m.area == "block" and m.pages > 2 and m.address % 2**20)
)
freed = [m for m in truth.mappings if not m.live]
used = {m.address + i * PAGE for m in filled for i in range(m.pages)}
gone = [
    m.address + i * PAGE
    for m in freed
    for i in range(m.pages)
    if m.area == "block" and m.address + i * PAGE not in used
]
devices = [m.address for m in truth.mappings if m.live and m.kind == "ioremap"]
result: Dict[str, Any] = {"pages": sum(m.pages for m in filled), "before": look()}
assert use_direct_reads(prog)
result["direct"] = look()
result["at once"] = sum(read_at_once(m) for m in filled if m.address not in poked.pages)
result["mappings"] = sum(m.address not in poked.pages for m in filled)
result["per-CPU"] = like_memory(per_cpu_pages())
result["gone"] = Counter(str(outcome(lambda: len(prog.read(at, 8)))) for at in gone)
result["devices"] = [outcome(lambda: len(prog.read(at, 8))) for at in devices]
result["poked"] = {"nodes": poked.nodes, "text": TEXT.decode()}
use_direct_reads(prog, False)
result["off"] = look()
use_direct_reads(prog)
result["on again"] = read_at_once(next(m for m in filled if m.area == "own"))
print(json.dumps(result))
