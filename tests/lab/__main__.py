# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The lab by hand: ``python -m tests.lab``.

run: run a command in a guest; its output and exit status are passed on.
shell: boot a guest whose console is this terminal; Ctrl-A X ends it.
dump: save a vmcore of a guest, and beside it what /proc/vmallocinfo held.
fetch: fetch and build all that guests need.
samples: make the samples in vmcores/ again.
support: write docs/support.md from the records of test runs.
pictures: take the pictures in docs/pictures again.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from .chroot import ChrootError
from .disks import debug_disk, initramfs, modules_disk
from .guest import CommandTimeout, Guest, GuestError
from .kernels import ALL_KERNELS, KERNELS
from .packages import PackageError
from .pictures import PICTURES, take_pictures
from .samples import make_samples
from .support import PAGE, page, read_records
from .userland import root_disk

COMMAND_SECONDS = 3600.0


def main() -> int:
    """Do what the command line says; return the exit status."""
    arguments = _parser().parse_args()
    try:
        status: int = arguments.function(arguments)
    except (ChrootError, CommandTimeout, GuestError, PackageError) as error:
        print(f"lab: {error}", file=sys.stderr)
        return 2
    return status


def run(arguments: argparse.Namespace) -> int:
    with _boot(arguments) as guest:
        result = guest.run(shlex.join(arguments.command), COMMAND_SECONDS)
    sys.stdout.buffer.write(result.stdout)
    sys.stdout.flush()
    sys.stderr.buffer.write(result.stderr)
    # What a shell says of a command that a signal killed.
    return result.status if result.status >= 0 else 128 - result.status


def shell(arguments: argparse.Namespace) -> int:
    with _boot(arguments, interactive=True) as guest:
        guest.wait_until_off()
    return 0


def dump(arguments: argparse.Namespace) -> int:
    with _boot(arguments) as guest:
        text = guest.dump_with_vmallocinfo(arguments.output, arguments.format)
    arguments.output.with_name(f"{arguments.output.name}.vmallocinfo").write_bytes(text)
    return 0


def fetch(arguments: argparse.Namespace) -> int:
    for name in arguments.kernels or KERNELS:
        kernel = ALL_KERNELS[name]
        print(f"root disk: {root_disk(kernel.architecture)}")
        for part in (initramfs, modules_disk, debug_disk):
            part(kernel)
        print(f"{name}: {kernel.release}: {kernel.directory}")
    return 0


def samples(arguments: argparse.Namespace) -> int:
    make_samples(arguments.kernels or list(KERNELS))
    return 0


def support(arguments: argparse.Namespace) -> int:
    PAGE.write_text(page(read_records(arguments.records)), encoding="utf-8")
    return 0


def pictures(arguments: argparse.Namespace) -> int:
    take_pictures(PICTURES)
    return 0


def _boot(arguments: argparse.Namespace, interactive: bool = False) -> Guest:
    return Guest.boot(
        arguments.kernel,
        cpus=arguments.cpus,
        memory_mib=arguments.memory,
        numa_nodes=arguments.numa,
        append=arguments.append,
        debug_info=arguments.debug_info,
        interactive=interactive,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.lab",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    guest = _guest_options()

    run_parser = verbs.add_parser("run", parents=[guest])
    run_parser.add_argument("command", nargs="+", help="after --, the command")
    run_parser.set_defaults(function=run)

    shell_parser = verbs.add_parser("shell", parents=[guest])
    shell_parser.set_defaults(function=shell)

    dump_parser = verbs.add_parser("dump", parents=[guest])
    dump_parser.add_argument("-o", "--output", type=Path, required=True)
    formats = ("elf", "kdump-zlib")
    dump_parser.add_argument("--format", choices=formats, default="elf")
    dump_parser.set_defaults(function=dump)

    fetch_parser = verbs.add_parser("fetch")
    fetch_parser.add_argument("kernels", nargs="*", metavar="KERNEL")
    fetch_parser.set_defaults(function=fetch)

    samples_parser = verbs.add_parser("samples")
    samples_parser.add_argument("kernels", nargs="*", metavar="KERNEL")
    samples_parser.set_defaults(function=samples)

    support_parser = verbs.add_parser("support")
    support_parser.add_argument("records", nargs="+", type=Path, metavar="FILE.xml")
    support_parser.set_defaults(function=support)

    verbs.add_parser("pictures").set_defaults(function=pictures)
    return parser


def _guest_options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--kernel", choices=ALL_KERNELS, default="6.12")
    options.add_argument("--cpus", type=int, default=2)
    options.add_argument("--memory", type=int, default=1024, metavar="MIB")
    options.add_argument("--numa", type=int, default=1, metavar="NODES")
    options.add_argument("--append", default="", help="more of the kernel command line")
    options.add_argument("--no-debug-info", dest="debug_info", action="store_false")
    return options


if __name__ == "__main__":
    sys.exit(main())
