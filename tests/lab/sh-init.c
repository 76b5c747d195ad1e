// Copyright (c) drgn_vmap authors
// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The only program of a sh guest, for which no distribution has any: no C library
 * either. It has sq_remap() called in both ways that there are, by a driver and by who
 * writes to sysfs, and shows on the console what came of it.
 */

#include <asm/unistd.h>

#define SQ_USER "/sq_user.ko"
#define MAPPING "/sys/devices/system/cpu/cpu0/sq/mapping"
#define VMALLOCINFO "/proc/vmallocinfo"
#define KPTR_RESTRICT "/proc/sys/kernel/kptr_restrict"

enum { O_RDONLY, O_WRONLY };

static long call(long number, const void *a, const void *b, long c, const void *d)
{
	register long r3 asm("r3") = number;
	register const void *r4 asm("r4") = a;
	register const void *r5 asm("r5") = b;
	register long r6 asm("r6") = c;
	register const void *r7 asm("r7") = d;
	/* The fifth argument of mount() is 0 as well. */
	register long r0 asm("r0") = 0;

	asm volatile("trapa #0x15"
		     : "+r"(r0)
		     : "r"(r3), "r"(r4), "r"(r5), "r"(r6), "r"(r7)
		     : "memory", "r1");
	return r0;
}

static long length(const char *text)
{
	long count = 0;

	while (text[count])
		count++;
	return count;
}

static void say(const char *text)
{
	call(__NR_write, (void *)1, text, length(text), 0);
}

static void say_if_negative(const char *what, long result)
{
	if (result < 0 && result > -4096) {
		say("lab: failed: ");
		say(what);
		say("\n");
	}
}

static void mount(const char *type, const char *where)
{
	say_if_negative(where, call(__NR_mount, type, where, (long)type, 0));
}

static long open(const char *path, long flags)
{
	long file = call(__NR_open, path, (void *)flags, 0, 0);

	say_if_negative(path, file);
	return file;
}

static void write_to(const char *path, const char *text)
{
	long file = open(path, O_WRONLY);

	say_if_negative(path, call(__NR_write, (void *)file, text, length(text), 0));
	call(__NR_close, (void *)file, 0, 0, 0);
}

static void show(const char *path)
{
	static char page[4096];
	long file = open(path, O_RDONLY), count;

	say("lab: begin ");
	say(path);
	say("\n");
	while ((count = call(__NR_read, (void *)file, page, sizeof(page), 0)) > 0)
		call(__NR_write, (void *)1, page, count, 0);
	say("lab: end\n");
	call(__NR_close, (void *)file, 0, 0, 0);
}

void _start(void)
{
	mount("proc", "/proc");
	mount("sysfs", "/sys");
	say_if_negative(SQ_USER, call(__NR_finit_module, (void *)open(SQ_USER, O_RDONLY),
				      "", 0, 0));
	/* Physical address and length: of the board's video memory, as the driver. */
	write_to(MAPPING, "10100000 4000");
	show(MAPPING);
	show(VMALLOCINFO);
	write_to(KPTR_RESTRICT, "1");
	show(VMALLOCINFO);
	/* Magic numbers of reboot(2), and its LINUX_REBOOT_CMD_POWER_OFF. */
	call(__NR_reboot, (void *)0xfee1dead, (void *)0x28121969, 0x4321fedc, 0);
}
