# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Copies of /proc/vmallocinfo, with the lines of several kernels in each."""

from __future__ import annotations

__all__ = ("BITS_32", "EARLY", "HASHED", "RAW", "ZERO")

RAW = """\
0xffffc90000000000-0xffffc90000005000   20480 irq_init_percpu_irqstack+0xf4/0x130 vmap
0xffffc90000005000-0xffffc90000007000    8192 acpi_os_map_iomem+0x1a9/0x1e0 phys=0x000000003ffe1000 ioremap
0xffffc9000000d000-0xffffc9000000f000    8192 gen_pool_add_owner+0x3e/0xc0 pages=1 vmalloc N1=1
0xffffc90000010000-0xffffc90000212000 2105344 nft_init+0x19/0x30 [nf_tables] pages=513 vmalloc user vpages N0=500 N12=13
0xffffc90000300000-0xffffc90000310000   65536 arena_map_alloc+0x5e/0x1a0 sparse
0xffffc90000310000-0xffffc90000312000    8192 0xffffffffc020914d pages=1 vmalloc N0=1
0xffffc90000312000-0xffffc90000314000    8192 dma_common+0x1/0x2 vmap dma-coherent
0xffffc90000320000-0xffffc90000330000   65536 vmap
0xffffc90000400000-0xffffc90000500000 1048576 vm_map_ram
0xffffc90000500000-0xffffc90000504000   16384 unpurged vm_area
"""
HASHED = """\
0x00000000d1ab52a1-0x0000000034c1e0f7   20480 kernel_clone+0x9c/0x430 pages=4 vmalloc N0=4
0x0000000034c1e0f7-0x000000002209b3c8   20480 kernel_clone+0x9c/0x430 pages=4 vmalloc N0=4
0x000000005d07aa10-0x00000000d1ab52a1  266240 vm_map_ram
"""
ZERO = """\
0x0000000000000000-0x0000000000000000   20480 kernel_clone+0x9c/0x430 pages=4 vmalloc N0=4
0x0000000000000000-0x0000000000000000   20480 kernel_clone+0x9c/0x430 pages=4 vmalloc N0=4
"""
EARLY = "0x(____ptrval____)-0x(____ptrval____)    8192 hpet_enable+0x1/0x2 ioremap\n"
BITS_32 = "0xf0800000-0xf0802000    8192 of_iomap+0x1/0x2 phys=0xfe000000 ioremap\n"
