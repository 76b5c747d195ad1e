# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Makes the samples in vmcores/ again: a guest of each kernel with the fixture module's
areas, dumped, and sliced.
"""

from __future__ import annotations

import hashlib
import lzma
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.samples import SAMPLES_DIR, Sample, samples, write_manifest

from .fixture_module import load_fixture_module
from .guest import Guest
from .kernels import KERNELS

__all__ = ("make_samples",)

CPUS, NUMA_NODES, MEMORY_MIB = 2, 2, 1024
VMALLOC_USED = re.compile(rb"^VmallocUsed: +(\d+) kB$", re.M)
MADE = (
    f"a guest with {CPUS} CPUs, {NUMA_NODES} NUMA nodes and {MEMORY_MIB} MiB; the "
    "fixture module loaded, and told 'lazy 3'; dumped by QEMU as ELF; vmap slice"
)


def make_samples(names: list[str]) -> None:
    """Make the samples of some kernels anew, and keep the others."""
    listed = {sample.name: sample for sample in samples()}
    for name in names:
        listed[name] = _make(name)
        write_manifest([listed[kernel] for kernel in KERNELS if kernel in listed])


def _make(name: str) -> Sample:
    files = {}
    with TemporaryDirectory(dir="/var/tmp") as directory:
        vmcore, slice_ = Path(directory, "vmcore"), Path(directory, "slice")
        with Guest.boot(
            name, cpus=CPUS, numa_nodes=NUMA_NODES, memory_mib=MEMORY_MIB
        ) as guest:
            load_fixture_module(guest)
            guest.write("/proc/vmap_lab", b"lazy 3")
            files["vmallocinfo"] = guest.dump_with_vmallocinfo(vmcore)
            files["vmap_lab"] = guest.read("/proc/vmap_lab")
            used = VMALLOC_USED.search(guest.read("/proc/meminfo"))
        command = [sys.executable, "-m", "drgn", "-q", "-c", str(vmcore)]
        command += [
            "-s",
            str(guest.vmlinux),
            "scripts/vmap_slice.py",
            "-o",
            str(slice_),
        ]
        subprocess.run(command, check=True)
        unpacked = slice_.read_bytes()
    packed = lzma.compress(unpacked, preset=9 | lzma.PRESET_EXTREME)
    (SAMPLES_DIR / f"{name}.xz").write_bytes(packed)
    for suffix, data in files.items():
        (SAMPLES_DIR / f"{name}.{suffix}").write_bytes(data)
    assert used
    return Sample(
        name=name,
        release=guest.release,
        made=MADE,
        sha256=hashlib.sha256(packed).hexdigest(),
        unpacked_sha256=hashlib.sha256(unpacked).hexdigest(),
        unpacked_bytes=len(unpacked),
        sha256_of={
            suffix: hashlib.sha256(data).hexdigest() for suffix, data in files.items()
        },
        vmalloc_used_kib=int(used[1]),
    )
