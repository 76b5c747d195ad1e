# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The lab itself: guests are the kernels they should be, and say what happened."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from drgn import Program

from .guest import CommandTimeout, Guest, GuestError
from .vmcore import KDUMP_KERNEL, Vmcore

CHECKOUT = Path(__file__).parents[2]


def release_in(vmcore: Vmcore) -> str:
    """Return ``uname -r`` as drgn reads it from a vmcore, by its debug information."""
    prog = Program()
    prog.set_core_dump(vmcore.path)
    prog.load_debug_info([vmcore.kernel.vmlinux])
    release = prog["init_uts_ns"].name.release.string_()
    return str(release, "ascii")


def test_kernel_is_the_one_asked_for(guest: Guest) -> None:
    """The release in the kernel's vmlinux is what uname prints in the guest."""
    release = guest.run("uname -r").stdout.decode().strip()
    version = guest.kernel.name.partition("-")[0]
    assert release.startswith(f"{version}.")
    prefix = b"Linux version " + release.encode() + b" "
    assert prefix in guest.vmlinux.read_bytes()


def test_output_is_passed_on_byte_for_byte(guest: Guest) -> None:
    """16 MiB of all byte values arrive, standard output and error apart."""
    data = bytes(range(256)) * 65536
    guest.write("/tmp/data", data)
    result = guest.run("cat /tmp/data; head -c 1000 /tmp/data >&2; rm /tmp/data")
    assert result.stdout == data
    assert result.stderr == data[:1000]
    assert result.status == 0


@pytest.mark.parametrize(
    "command, status", [("exit 0", 0), ("exit 77", 77), ("kill -TERM $$", -15)]
)
def test_exit_status_is_passed_on(guest: Guest, command: str, status: int) -> None:
    """An exit status is told from a death by signal."""
    assert guest.run(command).status == status


def test_command_that_takes_too_long_is_killed(guest: Guest) -> None:
    """The command dies with all it started, and the guest lives on."""
    with pytest.raises(CommandTimeout):
        guest.run("sleep 1234 & yes", timeout=1)
    # A killed process is listed until its parent, init, has heard of its end.
    time.sleep(2)
    processes = guest.run("ps").stdout
    assert b"sleep 1234" not in processes
    assert b"yes" not in processes


def test_background_process_does_not_hold_a_command_up(guest: Guest) -> None:
    """A command is over when its shell is, though a child has its output open."""
    started = time.monotonic()
    result = guest.run("sleep 60 & echo $!", timeout=60)
    assert time.monotonic() - started < 30
    guest.run(f"kill {result.stdout.decode()}")


def test_samples_show_what_came_and_went(guest: Guest) -> None:
    """The sampled file's contents before, while and after a command are all there."""
    guest.write("/tmp/state", b"before")
    command = "printf while > /tmp/state; sleep 1; printf after > /tmp/state"
    samples = guest.run(command, sample="/tmp/state").samples
    assert samples[0] == b"before"
    assert b"while" in samples
    assert samples[-1] == b"after"


def test_files_are_copied_both_ways(guest: Guest, tmp_path: Path) -> None:
    """Contents and permissions arrive; what is not there is an error."""
    script = tmp_path / "script"
    script.write_bytes(b"#!/bin/sh\necho run\n")
    script.chmod(0o755)
    guest.put(script, "/tmp/script")
    assert guest.run("/tmp/script").stdout == b"run\n"
    guest.get("/tmp/script", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == script.read_bytes()
    with pytest.raises(OSError, match="No such file"):
        guest.read("/tmp/nothing")


def test_checkout_is_in_the_guest(guest: Guest) -> None:
    """Commands run where this very file is, as it is now."""
    path = Path(__file__).relative_to(CHECKOUT)
    assert guest.run(f"cat {path}").stdout == Path(__file__).read_bytes()


def test_drgn_finds_debug_info_by_itself(guest: Guest) -> None:
    """Live drgn in the guest reads a variable with its type."""
    script = 'print(prog["init_uts_ns"].name.release.string_().decode())'
    result = guest.run(f"drgn -q -c /proc/kcore -e '{script}'")
    assert result.stdout.decode().strip() == guest.release, result.stderr


def test_drgn_debugs_the_guest_from_outside(guest: Guest) -> None:
    """The spare QMP socket serves ``drgn --qemu``."""
    script = 'print(prog["init_uts_ns"].name.release.string_().decode())'
    drgn = [sys.executable, "-m", "drgn", "-q", "--qemu", str(guest.qmp_socket)]
    result = subprocess.run(
        [*drgn, "-s", str(guest.vmlinux), "-e", script],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.stdout.strip() == guest.release, result.stderr


def test_quiet_guest_stays_quiet(guest: Guest) -> None:
    """Without a command /proc/vmallocinfo stays the same for a while."""
    for _ in range(10):
        before = guest.read("/proc/vmallocinfo")
        time.sleep(2)
        if guest.read("/proc/vmallocinfo") == before:
            return
    pytest.fail("/proc/vmallocinfo changed all the time")


def test_vmcore_opens_in_drgn(vmcore: Vmcore) -> None:
    """QEMU's vmcores hold the kernel they were taken of."""
    assert release_in(vmcore) == vmcore.kernel.release
    assert vmcore.vmallocinfo.count(b"\n") > 50
    assert vmcore.truth.startswith(b"lab ")


def test_kdump_vmcore_opens_in_drgn(kdump_vmcore: Vmcore) -> None:
    """The crash kernel's vmcore is of the kernel that crashed, compressed."""
    assert kdump_vmcore.path.read_bytes()[:8] == b"KDUMP   "
    assert release_in(kdump_vmcore) == kdump_vmcore.kernel.release
    assert b"vmap_lab" in kdump_vmcore.vmallocinfo


def test_panic_ends_the_guest_and_shows_its_console() -> None:
    """A guest that dies is noticed at once, and its last words are in the error."""
    with Guest.boot(KDUMP_KERNEL, debug_info=False) as guest:
        with pytest.raises(GuestError, match="sysrq triggered crash"):
            guest.write("/proc/sysrq-trigger", b"c")


def test_guest_that_cannot_boot_shows_its_console() -> None:
    """A guest whose init is missing is an error with the kernel's own words."""
    with pytest.raises(GuestError, match="Kernel panic"):
        Guest.boot(KDUMP_KERNEL, debug_info=False, append="rdinit=/bin/false")
