# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Places a text all over a guest's memory: in this process's own memory, in the page cache
and a pipe, and in kernel objects of many sizes, which lie in the same slabs as those of
vmalloc. Every other one is freed, so that what comes next lies between. Argument: the
text, which is repeated. It stays when this has ended, for a child does not end: its PID is
printed.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
from pathlib import Path

SIZES = (16, 32, 40, 64, 72, 80, 96, 128, 160, 192, 256, 384, 512, 1024, 2048)
OF_EACH = 200
ADD_KEY, KEYCTL = 248, 250
USER_KEYRING, KEYCTL_UNLINK = -4, 9
KEY_HEADER = 24
LONGEST_SYMLINK = 120
LONGEST_ADDRESS = 100

libc = ctypes.CDLL(None, use_errno=True)
text = os.fsencode(sys.argv[1])
place = Path("/dev/shm/canaries")
kept: list[object] = []


def filled(size: int) -> bytes:
    return (text * (size // len(text) + 1))[:size]


def checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), "a system call")
    return result


def keys(size: int) -> None:
    """struct user_key_payload, and descriptions."""
    ring, payload = ctypes.c_long(USER_KEYRING), filled(max(size - KEY_HEADER, 1))
    for index in range(OF_EACH):
        name = b"%s%06d.%d" % (filled(min(size, 64)), size, index)
        arguments = (b"user", name, payload, ctypes.c_size_t(len(payload)), ring)
        key = checked(libc.syscall(ADD_KEY, *arguments))
        if index % 2:
            checked(libc.syscall(KEYCTL, KEYCTL_UNLINK, ctypes.c_long(key), ring))


def names(size: int) -> None:
    """Values of extended attributes, targets of links, names of files and sockets."""
    for index in range(OF_EACH):
        path = place / f"{filled(min(size, 200)).decode()}{size}.{index}"
        path.touch()
        os.setxattr(path, "trusted.canary", filled(size))
        link = path.with_name(f"{path.name}.link")
        link.symlink_to(filled(min(size, LONGEST_SYMLINK)).decode())
        if index % 2:
            path.unlink()
            link.unlink()
        elif size < LONGEST_ADDRESS and index % 8 == 0:
            bound = socket.socket(socket.AF_UNIX)
            bound.bind(b"\0" + filled(size) + b"%d" % index)
            kept.append(bound)


place.mkdir()
for size in SIZES:
    keys(size)
    names(size)
(place / "cached").write_bytes(filled(1 << 20))
read, write = os.pipe()
os.write(write, filled(1 << 15))
kept += [(read, write), filled(1 << 20)]
child = os.fork()
if child == 0:
    os.setsid()
    for descriptor in (0, 1, 2):
        os.close(descriptor)
    signal.pause()
print(child)
