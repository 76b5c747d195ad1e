# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The output on the pages of docs/ that comes from a kernel: another boot has other
numbers, callers and kinds, but each line is one that the command prints.
"""

from __future__ import annotations

import shlex

import pytest

from tests.expect.pages import expect_lines
from tests.pages import DEFAULT_KERNEL, shown_commands
from tests.running import drgn, on_vmcore, target_of

from .guest import Guest
from .kernels import ALL_KERNELS
from .marks import on_all_kernels
from .vmcore import Vmcore

PAGE = 4096


def in_a_block(vmcore: Vmcore) -> str:
    """Return the address of the page of a block that the pages ask about."""
    found = on_vmcore(vmcore, "blocks")
    return hex(int(found["blocks"][0]["start"], 16) + 8 * PAGE)


@pytest.mark.kernels(DEFAULT_KERNEL)
def test_output(vmcores: dict[str, Vmcore]) -> None:
    """Each shown line has the shape of a line that is printed."""
    vmcore = vmcores["elf"]
    address = in_a_block(vmcore)
    for shown in shown_commands("drgn"):
        if shown.live:
            continue
        words = [address if w.startswith("0xffff") else w for w in shown.words[3:]]
        if "-n" in words:
            # The largest ones may be others.
            words[words.index("-n") + 1] = "0"
        done = drgn(*target_of(vmcore), *words)
        # What the reader of blocks does wrong is a finding on every vmcore since 6.3.
        status = 1 if words[0] == "scripts/vmap_verify.py" else 0
        assert (done.returncode, done.stderr) == (status, "")
        expect_lines(shown, done.stdout)


@on_all_kernels
def test_live_output(module_guest: Guest) -> None:
    """The same of what is shown of a running kernel."""
    for shown in shown_commands("drgn"):
        if shown.live and shown.kernel == module_guest.kernel.name:
            command = ["drgn", "-q", "-c", "/proc/kcore", *shown.words[2:]]
            done = module_guest.run(shlex.join(command), timeout=300)
            assert done.status in (0, 1), done.stderr
            expect_lines(shown, done.stdout.decode())


def test_kernels_are_there() -> None:
    """Each live command is of a kernel that the lab has."""
    live = {shown.kernel for shown in shown_commands("drgn") if shown.live}
    assert live and live <= set(ALL_KERNELS)
