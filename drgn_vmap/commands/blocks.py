# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Show what is inside each vmap_block.

vm_map_ram() takes small mappings out of blocks. Pages of a block are handed out
once, in order; those freed are STRANDED until the whole block is empty. Each
CPU takes pages from the blocks on its own list. MAPPED comes from the page
table, so it may be less than USED, because requests are rounded up to a power
of two.

  vmap blocks                 all blocks; the last line says what to make of it
  vmap blocks --map           draws them page by page
  vmap blocks --address ADDR  the block that ADDR lies in

Exit status: 0, or 1 if parts of a vmcore could not be read, or 2 if it cannot.
"""

import argparse
import sys
from typing import TYPE_CHECKING

from ..analyses.blocks import (
    block_totals,
    blocks_by_cpu,
    describe_blocks,
    page_states,
    select_blocks,
)
from ..kernel.vmalloc.blocks import take_blocks
from ..render.blocks import block_map, block_table, blocks_json, summary_text
from ..render.records import document
from .common import (
    add_json,
    count,
    problem_status,
    terminal_width,
    warn_of_problems,
    write_text,
)
from .places import find_place

if TYPE_CHECKING:
    from ..kernel.target import Target

__all__ = ("add_arguments", "run")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``blocks``."""
    add_json(parser)
    parser.add_argument(
        "--address",
        metavar="ADDR",
        help="only the block that this address lies in, in hexadecimal; of START-END, "
        "START; or NAME[+OFFSET], a symbol",
    )
    parser.add_argument(
        "--cpu",
        metavar="N",
        type=count,
        help="only blocks with free pages that this CPU takes pages from",
    )
    parser.add_argument(
        "--map",
        action="store_true",
        help="draw each block, one character a page: used #, mapped but unused !, "
        "freed x, free .; ? if used and freed cannot be told apart",
    )


def run(target: "Target", args: argparse.Namespace) -> int:
    """Print the blocks that the arguments select."""
    address = None if args.address is None else find_place(target, args.address).address
    blocks = take_blocks(target)
    rows = select_blocks(blocks, address, args.cpu)
    shown = list(describe_blocks(blocks, rows))
    cpus, totals = blocks_by_cpu(blocks), block_totals(blocks)
    if args.json:
        body = blocks_json(blocks, shown, cpus, totals)
        sys.stdout.write(document("blocks", blocks.kernel, blocks.problems, **body))
    else:
        if args.map:
            states = page_states(blocks, rows)
            write_text(block_map(shown, states, terminal_width()))
        else:
            write_text(block_table(shown, cpus, terminal_width()))
        write_text("\n" + summary_text(blocks, totals))
        warn_of_problems("blocks", blocks.problems)
    return problem_status(blocks.problems)
