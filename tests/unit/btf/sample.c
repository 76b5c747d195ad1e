// Copyright (c) drgn_vmap authors
// SPDX-License-Identifier: LGPL-2.1-or-later
// One of each kind of type that C has. How sample.o is made of it:
//   gcc -O0 -gbtf -c sample.c -o btf.o; gcc -O0 -gdwarf-4 -c sample.c -o sample.o
//   objcopy --dump-section .BTF=sample.btf btf.o
//   objcopy --strip-unneeded --keep-section='.debug_*' sample.o

typedef unsigned long size_type;
typedef _Bool truth;

enum color { RED, GREEN = 5, BLUE = 0x7fffffff };
enum temperature { COLD = -40, WARM = 20 };
enum { NAMELESS_A = 1, NAMELESS_B } nameless;

struct only_declared;

union number {
	int i;
	unsigned char bytes[8];
	float f;
	double d;
	long double l;
};

struct bits {
	unsigned int a : 3;
	int b : 7;
	unsigned int : 0;
	unsigned long long c : 33;
	truth d : 1;
	enum color e : 4;
	signed char f;
};

struct node {
	struct node *next, **link;
	const char *name;
	volatile const int *vc;
	char *restrict r;
	struct only_declared *opaque;
	union number number;
	struct {
		short s;
		union {
			unsigned short u;
			char c;
		};
	};
	struct {
		long long x, y;
	} point;
	int matrix[3][4];
	struct bits bits[2];
	enum temperature temperature;
	int (*compare)(const struct node *, const struct node *, ...);
	void (*nothing)(void);
	size_type length;
	unsigned char flexible[];
};

struct empty { };
struct packed { char c; int i; } __attribute__((packed));

struct node *head;
struct empty empty;
struct packed packed;

int add(struct node *node, size_type count)
{
	return node->bits[0].a + (int)count;
}
