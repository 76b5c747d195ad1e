# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Old drgn on a running kernel, from the oldest that setup.cfg promises on: what
`make installed` tries on samples.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Iterator

import pytest

from tests.expect.listing import expect_listing_in
from tests.installed import DRGN_BETWEEN, oldest_drgn

from .guest import Guest
from .userland import PYTHON

WHEEL = (
    *("--no-deps", "--only-binary=:all:", f"--python-version={PYTHON[6:]}"),
    *("--platform=manylinux_2_28_x86_64", "--platform=manylinux2014_x86_64"),
)


@pytest.fixture(params=(oldest_drgn(), *DRGN_BETWEEN))
def old_drgn(
    request: pytest.FixtureRequest, module_guest: Guest, tmp_path: Path
) -> Iterator[str]:
    """How to start an old drgn in the guest, beside its own."""
    pip = [sys.executable, "-m", "pip", "install", "-qq", f"--target={tmp_path}"]
    subprocess.run([*pip, *WHEEL, f"drgn=={request.param}"], check=True)
    packed, place = io.BytesIO(), f"/tmp/drgn-{request.param}"
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(tmp_path, place)
    module_guest.write(f"{place}.tar", packed.getvalue())
    assert module_guest.run(f"tar -C / -xf {place}.tar").status == 0
    start = f"env PYTHONPATH={place} python3 -m drgn"
    version = module_guest.run(f"{start} --version").stdout.decode()
    assert version.startswith(f"drgn {request.param} ")
    yield f"{start} -q -c /proc/kcore"
    module_guest.run(f"rm -r {place} {place}.tar")


@pytest.mark.kernels("7.3")
def test_live(module_guest: Guest, old_drgn: str) -> None:
    """Without debug info it lists byte for byte what the kernel does, and reads itself."""
    bare = f"{old_drgn} --no-default-symbols"
    expect_listing_in(module_guest, bare)
    done = module_guest.run(f"{bare} scripts/vmap_verify.py --json", timeout=300)
    assert (done.status, done.stderr) == (1, b"")
    found = json.loads(done.stdout)
    assert found["verdict"] == "fixed"
    assert [one["id"] for one in found["findings"]] == ["vmap-block-reader"]
