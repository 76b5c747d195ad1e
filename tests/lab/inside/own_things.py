# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Owns areas of several kinds: BPF programs and maps, and a table of open files so large
that it lies in vmalloc space; a child that has exited had one, too. Prints in a line of
JSON what the kernel's system calls say of them, and keeps them until it is killed.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import resource
import signal
import struct
import sys
from typing import Dict, List

BPF = {"x86_64": 321, "aarch64": 280}[platform.machine()]
MAP_CREATE, PROG_LOAD, GET_INFO = 0, 5, 15
HASH, ARRAY, SOCKET_FILTER = 1, 2, 1
FAR_FD = 600_000
"""The table of so many is larger than kmalloc() gives."""

libc = ctypes.CDLL(None, use_errno=True)


def bpf(command: int, attributes: bytes) -> int:
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    result: int = libc.syscall(BPF, command, buffer, len(attributes))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"bpf({command})")
    return result


def make_map(kind: int, key: int, value: int, entries: int, name: str) -> int:
    head = struct.pack("7I", kind, key, value, entries, 0, 0, 0)
    return bpf(MAP_CREATE, head + name.encode().ljust(16, b"\0"))


def make_program(length: int, name: str) -> int:
    """Load a program of so many instructions that returns 0."""
    code = struct.pack("<BBhi", 0xB7, 0, 0, 0) * (length - 1)
    code += struct.pack("<BBhi", 0x95, 0, 0, 0)
    kept = ctypes.create_string_buffer(code, len(code))
    license_ = ctypes.create_string_buffer(b"GPL")
    head = struct.pack(
        "IIQQIIQII",
        *(SOCKET_FILTER, length, ctypes.addressof(kept), ctypes.addressof(license_)),
        *(0, 0, 0, 0, 0),
    )
    return bpf(PROG_LOAD, head + name.encode().ljust(16, b"\0"))


def info(fd: int) -> bytes:
    buffer = ctypes.create_string_buffer(80)
    bpf(GET_INFO, struct.pack("IIQ", fd, 80, ctypes.addressof(buffer)))
    return buffer.raw


def told(data: bytes, name_at: int) -> Dict[str, object]:
    kind, id_ = struct.unpack_from("II", data)
    name = data[name_at : name_at + 16].partition(b"\0")[0].decode()
    return {"type": kind, "id": id_, "name": name}


def exited_child() -> int:
    """Return the PID of a child that had such a table, and is dead but not buried."""
    child = os.fork()
    if not child:
        os.dup2(0, FAR_FD)
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    return child


def main() -> None:
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (-1, -1))
    resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 20, 1 << 20))
    exited = exited_child()
    maps: List[int] = [
        make_map(ARRAY, 4, 4096, 256, "lab_array"),
        make_map(HASH, 8, 64, 8192, "lab_hash"),
    ]
    programs = [make_program(2, "lab_small"), make_program(4000, "lab_large")]
    os.dup2(0, FAR_FD)
    found = {
        "pid": os.getpid(),
        "exited": exited,
        "comm": open("/proc/self/comm", encoding="utf-8").read().strip(),
        "maps": [told(info(fd), 24) for fd in maps],
        "programs": [
            {**told(info(fd), 64), "tag": info(fd)[8:16].hex()} for fd in programs
        ],
    }
    print(json.dumps(found), flush=True)
    sys.stdout.flush()
    signal.pause()


main()
