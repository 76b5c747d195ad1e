# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The QEMU command that makes a guest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .accelerator import accelerator
from .disks import debug_disk, initramfs, modules_disk
from .kernel import Kernel
from .userland import root_disk

__all__ = ("Hardware", "Sockets", "arguments", "qemu_command")

CRASH_MEMORY_MIB = 256


@dataclass(frozen=True)
class Hardware:
    """What a guest is made of."""

    cpus: int
    memory_mib: int
    numa_nodes: int
    append: str
    """More of the kernel command line."""

    debug_info: bool
    """Whether drgn finds a vmlinux in the guest."""

    crash_kernel: bool
    """Whether memory is set aside for a kernel that saves a vmcore after a crash."""

    qemu: tuple[str, ...] = ()
    """More of QEMU's command line: of what is said twice, the last counts."""


@dataclass(frozen=True)
class Sockets:
    """Where a guest listens."""

    agent: Path
    qmp: Path
    qmp_for_others: Path


def arguments(kernel: Kernel) -> str:
    """Return what the command line of a kernel has to have."""
    architecture = kernel.architecture
    # With -no-reboot: a guest that panics ends, and is not waited for.
    return f"console={architecture.console} panic=-1 {architecture.arguments}"


def qemu_command(
    kernel: Kernel,
    hardware: Hardware,
    sockets: Sockets,
    serial: str,
    scratch: Path | None,
) -> list[str]:
    """
    Return the command that boots a guest.

    :param serial: QEMU's ``-serial``, where the guest's console goes.
    :param scratch: an image that keeps what the guest writes to it.
    """
    # setpriv: a guest never outlives who started it.
    architecture = kernel.architecture
    command = ["setpriv", "--pdeathsig", "KILL", "--", architecture.qemu]
    command += ["-accel", accelerator(architecture), *architecture.machine]
    command += ["-display", "none", "-monitor", "none", "-serial", serial]
    command += ["-no-reboot", "-nic", "none"]
    command += _processors_and_memory(hardware)
    command += _boot(kernel, hardware)
    command += _disks(kernel, hardware.debug_info, scratch)
    command += _channels(sockets)
    command += hardware.qemu
    return command


def _processors_and_memory(hardware: Hardware) -> list[str]:
    nodes = hardware.numa_nodes
    options = ["-smp", str(hardware.cpus), "-m", f"{hardware.memory_mib}M"]
    if nodes == 1:
        return options
    size_mib = hardware.memory_mib // nodes
    for node in range(nodes):
        options += ["-object", f"memory-backend-ram,id=memory{node},size={size_mib}M"]
        cpus = "".join(f",cpus={cpu}" for cpu in range(node, hardware.cpus, nodes))
        options += ["-numa", f"node,nodeid={node},memdev=memory{node}{cpus}"]
    return options


def _boot(kernel: Kernel, hardware: Hardware) -> list[str]:
    words = f"{arguments(kernel)} {hardware.append}"
    if hardware.crash_kernel:
        words += f" crashkernel={CRASH_MEMORY_MIB}M"
    options = ["-kernel", str(kernel.vmlinuz), "-initrd", str(initramfs(kernel))]
    return [*options, "-append", words]


def _disks(kernel: Kernel, debug_info: bool, scratch: Path | None) -> list[str]:
    images = [root_disk(kernel.architecture), modules_disk(kernel)]
    if debug_info:
        images.append(debug_disk(kernel))
    drives = [f"file={image},snapshot=on" for image in images]
    if scratch:
        drives.append(f"file={scratch}")
    options = []
    for drive in drives:
        options += ["-drive", f"if=virtio,format=raw,{drive}"]
    return options


def _channels(sockets: Sockets) -> list[str]:
    agent = f"socket,id=agent,path={sockets.agent},server=on,wait=off"
    options = ["-chardev", agent, "-device", "virtio-serial"]
    options += ["-device", "virtserialport,chardev=agent,nr=1,name=agent"]
    for path in (sockets.qmp, sockets.qmp_for_others):
        options += ["-qmp", f"unix:{path},server=on,wait=off"]
    return options
