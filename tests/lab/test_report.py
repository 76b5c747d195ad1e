# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
`vmap report` and `%vmap` alone, of vmcores: whole, small, and with the fixture
module's areas.
"""

from __future__ import annotations

from pathlib import Path

from tests.expect.html import Page
from tests.running import run_on

from .vmcore import Vmcore


def test_report(vmcores: dict[str, Vmcore], tmp_path: Path) -> None:
    """Each section is there; the drawing has each kind that the module made."""
    output = tmp_path / "report.html"
    assert run_on(vmcores["elf"], "scripts/vmap_report.py", "-o", output) == ""
    html = output.read_text(encoding="utf-8")
    page = Page(html)
    sections = {"summary", "space", "map", "by-caller", "areas", "blocks", "fsck"}
    assert sections <= set(page.ids)
    assert "map_vmalloc+" in page.text and "0 of" in page.text
    for kind in ("vmalloc", "vmap", "vm_map_ram", "vmap_block"):
        assert f'<path class="{kind}"' in html
    assert len(html) < 200_000


def test_overview(vmcores: dict[str, Vmcore]) -> None:
    """One screen: release, sums, the pages that the kernel counts too, callers."""
    vmcore = vmcores["elf"]
    text = run_on(vmcore, "tests/lab/inside/overview.py")
    lines = text.splitlines()
    assert len(lines) <= 24
    listed = len(vmcore.vmallocinfo.splitlines())
    [areas] = [line for line in lines if line.startswith("areas ")]
    assert 0 < int(areas.split()[1].rstrip(",")) <= listed
    assert "map_vmalloc+" in text and "equal" in text
    assert "warning        none" in lines
