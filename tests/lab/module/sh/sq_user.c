// Copyright (c) drgn_vmap authors
// SPDX-License-Identifier: GPL-2.0
/*
 * A driver for an SH-4 with a device's memory behind a store queue, as the one for the
 * Dreamcast's screen has it. It never writes there.
 */

#include <linux/err.h>
#include <linux/module.h>
#include <linux/pgtable.h>

#include <cpu/sq.h>

/* The video memory of QEMU's r2d board, right behind its RAM. */
#define PHYS 0x10000000
#define SIZE (2 * PAGE_SIZE)

static unsigned long queue;

/* Not __init: whoever calls sq_remap() is named, so it should stay and have a name. */
static int sq_user_init(void)
{
	queue = sq_remap(PHYS, SIZE, KBUILD_MODNAME, PAGE_SHARED);
	return IS_ERR_VALUE(queue) ? queue : 0;
}

static void sq_user_exit(void)
{
	sq_unmap(queue);
}

module_init(sq_user_init);
module_exit(sq_user_exit);

MODULE_DESCRIPTION("A user of a store queue, for drgn_vmap's tests");
MODULE_LICENSE("GPL");
