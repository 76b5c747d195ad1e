# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Look for what may be damaged in a running guest without harm; drgn runs this there.

Prints JSON: by name, where a word lies, the word, one that is wrong there, the check
that is to find it, and the address that it is to name.
"""

import json
import sys
from pathlib import Path

from drgn import Object, Program
from drgn.helpers.linux.mm import find_vmap_area

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from tests.lab.truth import Truth

PAGE = 4096
prog: Program = globals()["prog"]


def spot(member: Object, wrong: int, check: str, address: int) -> "dict[str, object]":
    where = member.address_
    word = prog.read_word(where)
    return {
        "where": hex(where),
        "word": hex(word),
        "wrong": hex(wrong),
        "check": check,
        "address": hex(address),
    }


# Areas of the module's, so that nobody frees them or their neighbours meanwhile, and no
# counter: what the kernel adds to one in between would be lost when it is mended.
truth = Truth.parse(Path("/proc/vmap_lab").read_text())
own = [m for m in truth.mappings if m.live and m.kind == "vmalloc" and m.area == "own"]
area, other = (find_vmap_area(prog, m.address) for m in own[:2])
spots = {
    "link": spot(
        area.list.prev,
        other.list.address_of_().value_(),
        "area-lists",
        area.value_(),
    ),
    "size": spot(
        area.vm.size, area.vm.size.value_() + PAGE, "vm-sizes", area.vm.value_()
    ),
}
if prog.type("struct vmap_area").has_member("flags"):
    spots["flags"] = spot(
        area.member_("flags"), area.flags.value_() | 1, "area-flags", area.value_()
    )
print(json.dumps(spots))
