# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Run `vmap check` and see for oneself what /proc/kcore holds; drgn runs this in a guest.

drgn reads virtual addresses of a live kernel through /proc/kcore, and a page of the
fixture module says itself whose it is. Prints JSON: the exit status and the document;
by address, what each page of the module's areas read as: "zeros", "other", or whose
page it is by fill and index; of each area for per-CPU memory its start, how many
pages drgn's own walk finds mapped, and whether the last one is; and the start of the
topmost area.
"""

import contextlib
import ctypes
import io
import json
import os
import platform
import re
import resource
import struct
import sys
from pathlib import Path
from typing import Any, List, Set, Tuple

from drgn import FaultError, Program
from drgn.helpers.linux.mm import follow_phys

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from drgn_vmap.commands import run
from tests.lab.truth import MAGIC, Truth, address_of, page_bytes

PAGE = 4096
RAM = {"vm_map_ram", "vmap_block"}
SYS_BPF = {
    "x86_64": 321,
    "aarch64": 280,
    "ppc64le": 361,
    "riscv64": 280,
    "s390x": 351,
}[platform.machine()]
BPF_MAP_CREATE, BPF_MAP_TYPE_PERCPU_ARRAY = 0, 6
prog: Program = globals()["prog"]


def fill_per_cpu_chunks() -> None:
    """Have so much per-CPU memory allocated that some chunks are full to their end."""
    attr = ctypes.create_string_buffer(128)
    # Until Linux kernel commit 80ee81e0403c ("bpf: Eliminate rlimit-based memory
    # accounting infra for bpf maps") (in v5.11), their memory counts as locked.
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.setrlimit(resource.RLIMIT_MEMLOCK, unlimited)
    # A chunk has up to 2 MiB for each CPU.
    struct.pack_into("=IIII", attr, 0, BPF_MAP_TYPE_PERCPU_ARRAY, 4, 4 * PAGE, 400)
    libc = ctypes.CDLL(None, use_errno=True)
    # The map lives as long as this process.
    if libc.syscall(SYS_BPF, BPF_MAP_CREATE, attr, len(attr)) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def seen(address: int) -> Any:
    try:
        page = prog.read(address, PAGE)
    except FaultError:
        return "fault"
    if page == bytes(PAGE):
        return "zeros"
    (word,) = struct.unpack_from("=Q", page)
    fill, index = word >> 32 & 0xFFFFFF, word >> 16 & 0xFFFF
    if word >> 56 != MAGIC or page != page_bytes(fill, index, PAGE):
        return "other"
    return [fill, index]


def pages(area: Any) -> range:
    return range(int(area["start"], 16), int(area["end"], 16), PAGE)


def of_module(area: Any, starts: Set[int]) -> bool:
    return bool(RAM & set(area["kinds"])) or int(area["start"], 16) in starts


def is_mapped(address: int) -> bool:
    try:
        follow_phys(prog["init_mm"].address_of_(), address)
    except FaultError:
        return False
    return True


def per_cpu_areas() -> List[Tuple[str, int, bool]]:
    found = []
    for line in Path("/proc/vmallocinfo").read_text().splitlines():
        area = re.match(r"(0x\w+)-(0x\w+) +\d+ pcpu_get_vm_areas\+", line)
        if area:
            start, end = map(address_of, area.groups())
            mapped = [is_mapped(at) for at in range(start, end, PAGE)]
            found.append((hex(start), sum(mapped), mapped[-1]))
    return found


def topmost_area() -> str:
    lines = Path("/proc/vmallocinfo").read_text().splitlines()
    areas = [line for line in lines if "unpurged" not in line]
    return hex(max(address_of(line.split("-")[0]) for line in areas))


fill_per_cpu_chunks()
out = io.StringIO()
with contextlib.redirect_stdout(out):
    status = run("check", prog, ["--json", *sys.argv[1:]])
document = json.loads(out.getvalue())
truth = Truth.parse(Path("/proc/vmap_lab").read_text())
starts = {mapping.address for mapping in truth.mappings if mapping.live}
result = {
    "status": status,
    "document": document,
    "seen": {
        hex(at): seen(at)
        for area in document["areas"]
        if of_module(area, starts)
        for at in pages(area)
    },
    "per_cpu": per_cpu_areas(),
    "topmost": topmost_area(),
}
print(json.dumps(result))
