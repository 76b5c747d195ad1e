// Copyright (c) drgn_vmap authors
// SPDX-License-Identifier: GPL-2.0
/*
 * Mappings of every kind in the kernel's vmalloc range, with known contents, and
 * the truth about them in /proc/vmap_lab. README.md describes commands and lines.
 */

#include <linux/cpumask.h>
#include <linux/io.h>
#include <linux/ioport.h>
#include <linux/kallsyms.h>
#include <linux/kprobes.h>
#include <linux/kthread.h>
#include <linux/list.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/nodemask.h>
#include <linux/pci.h>
#include <linux/percpu.h>
#include <linux/proc_fs.h>
#include <linux/random.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/version.h>
#include <linux/vmalloc.h>
#include <linux/workqueue.h>
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 10, 0)
#include <linux/execmem.h>
#endif

#define MAGIC 0xa5ULL
#define MAX_ID 0xffffffU
/* vm_map_ram() gives more pages than this an area of their own. */
#define MAX_BLOCK_MAPPING BITS_PER_LONG
/* ioremap() of more could pass the physical address space of small machines. */
#define MAX_RESERVE (512ULL << 30)
#define MAX_HUGE_BYTES (8UL << 20)
#define MAX_ARRAY_BYTES (64UL << 20)
#define ALIAS_PAGES 4096U

struct mapping;

/* Where the pages of a mapping come from. */
enum source {
	FROM_US,	/* allocated before and passed to the kernel */
	FROM_KERNEL,	/* allocated by the call that maps them */
	FROM_DEVICE,	/* physical addresses that are no RAM of the kernel's */
};

struct kind {
	const char *name;
	enum source source;
	void (*map)(struct mapping *mapping);
	void (*unmap)(struct mapping *mapping);
	const char *absent;	/* why this kernel or machine has none, or NULL */
};

struct mapping {
	struct list_head list;
	const struct kind *kind;
	void *addr;
	unsigned int pages;
	unsigned int id;
	unsigned int fill;	/* id of the mapping whose contents it shows; 0: none */
	int cpu;		/* that vm_map_ram() ran on */
	int node;		/* that vmalloc_node() was asked for */
	bool live;
	phys_addr_t phys;	/* FROM_DEVICE only */
	struct page **backing;	/* we hold a reference on each, even when unmapped */
};

struct mapping_set {
	const char *name;
	const char *file;
	const char *caller;
	struct list_head mappings;
	unsigned long live;
	unsigned long live_pages;
	unsigned long freed;
};

#define DEFINE_SET(set_name, set_file, set_caller)			\
	static struct mapping_set set_name##_set = {			\
		.name = #set_name,					\
		.file = set_file,					\
		.caller = set_caller,					\
		.mappings = LIST_HEAD_INIT(set_name##_set.mappings),	\
	}

DEFINE_SET(base, "vmap_lab", "-");
DEFINE_SET(many, "vmap_lab_many", "vmap_lab_many");
DEFINE_SET(leak, "vmap_lab_leak", "vmap_lab_leak");
DEFINE_SET(blocks, "vmap_lab_blocks", "-");
DEFINE_SET(aliases, "vmap_lab_aliases", "map_vmap");
DEFINE_SET(reserve, "vmap_lab_reserve", "map_ioremap");

static struct mapping_set *const sets[] = {
	&base_set, &many_set, &leak_set, &blocks_set, &aliases_set, &reserve_set,
};

static DEFINE_MUTEX(lab_lock);	/* protects sets, and what commands keep */
static unsigned long changes = 1;	/* to the lists of the sets */
static unsigned int last_id;
static char last_try[128];

static phys_addr_t device_phys;	/* a page of a PCI memory BAR */
static phys_addr_t reserved_phys;	/* a page of memory the firmware kept */

/* --- how each kind is mapped and unmapped ------------------------------------ */

static unsigned long mapped_bytes(const struct mapping *mapping)
{
	return (unsigned long)mapping->pages << PAGE_SHIFT;
}

static void map_vm_map_ram(struct mapping *mapping)
{
	mapping->cpu = raw_smp_processor_id();
	mapping->addr = vm_map_ram(mapping->backing, mapping->pages, NUMA_NO_NODE);
}

static void unmap_vm_map_ram(struct mapping *mapping)
{
	vm_unmap_ram(mapping->addr, mapping->pages);
}

static void map_vmap(struct mapping *mapping)
{
	mapping->addr = vmap(mapping->backing, mapping->pages, VM_MAP, PAGE_KERNEL);
}

static void unmap_vmap(struct mapping *mapping)
{
	vunmap(mapping->addr);
}

/* The kernel gets an array and references of its own, which vfree() drops. */
static void map_vmap_put(struct mapping *mapping)
{
	struct page **pages;
	unsigned int i;

	pages = kvmalloc_array(mapping->pages, sizeof(*pages), GFP_KERNEL);
	if (!pages)
		return;
	for (i = 0; i < mapping->pages; i++) {
		pages[i] = mapping->backing[i];
		get_page(pages[i]);
	}
	mapping->addr = vmap(pages, mapping->pages, VM_MAP | VM_MAP_PUT_PAGES,
			     PAGE_KERNEL);
	if (mapping->addr)
		return;
	for (i = 0; i < mapping->pages; i++)
		put_page(pages[i]);
	kvfree(pages);
}

static void map_vmalloc(struct mapping *mapping)
{
	mapping->addr = vmalloc(mapped_bytes(mapping));
}

static void unmap_vmalloc(struct mapping *mapping)
{
	vfree(mapping->addr);
}

static void map_vmalloc_user(struct mapping *mapping)
{
	mapping->addr = vmalloc_user(mapped_bytes(mapping));
}

static void map_vmalloc_node(struct mapping *mapping)
{
	mapping->addr = vmalloc_node(mapped_bytes(mapping), mapping->node);
}

static void map_vmalloc_huge(struct mapping *mapping)
{
	/*
	 * Exported since v5.18, which commit f2edd118d02d ("page_alloc: use
	 * vmalloc_huge for large system hash") is in.
	 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 18, 0)
	mapping->addr = vmalloc_huge(mapped_bytes(mapping), GFP_KERNEL);
#endif
}

static void map_ioremap(struct mapping *mapping)
{
	mapping->addr = (void __force *)ioremap(mapping->phys, mapped_bytes(mapping));
}

static void unmap_ioremap(struct mapping *mapping)
{
	iounmap((void __iomem __force *)mapping->addr);
}

static void map_memremap(struct mapping *mapping)
{
	void *addr = memremap(mapping->phys, mapped_bytes(mapping), MEMREMAP_WB);

	if (addr && !is_vmalloc_addr(addr)) {
		memunmap(addr);
		addr = NULL;
	}
	mapping->addr = addr;
}

static void unmap_memremap(struct mapping *mapping)
{
	memunmap(mapping->addr);
}

/* The callers that `many` and `leak` promise, apart from any other mapping's. */
static noinline void vmap_lab_many(struct mapping *mapping)
{
	mapping->addr = __vmalloc(mapped_bytes(mapping), GFP_KERNEL | __GFP_NORETRY);
}

static noinline void vmap_lab_leak(struct mapping *mapping)
{
	mapping->addr = __vmalloc(mapped_bytes(mapping), GFP_KERNEL | __GFP_NORETRY);
}

/* A caller that is gone once the module is loaded. */
static noinline void __init map_from_init_text(struct mapping *mapping)
{
	mapping->addr = vmalloc(mapped_bytes(mapping));
}

enum {
	VM_MAP_RAM,
	VMAP,
	VMAP_PUT,
	VMALLOC,
	VMALLOC_USER,
	VMALLOC_NODE,
	VMALLOC_HUGE,
	IOREMAP,
	MEMREMAP,
};

#define KIND(kind_name, kind_source, undo)				\
	{								\
		.name = #kind_name,					\
		.source = kind_source,					\
		.map = map_##kind_name,					\
		.unmap = unmap_##undo,					\
	}

static struct kind kinds[] = {
	[VM_MAP_RAM] = KIND(vm_map_ram, FROM_US, vm_map_ram),
	[VMAP] = KIND(vmap, FROM_US, vmap),
	[VMAP_PUT] = KIND(vmap_put, FROM_US, vmalloc),
	[VMALLOC] = KIND(vmalloc, FROM_KERNEL, vmalloc),
	[VMALLOC_USER] = KIND(vmalloc_user, FROM_KERNEL, vmalloc),
	[VMALLOC_NODE] = KIND(vmalloc_node, FROM_KERNEL, vmalloc),
	[VMALLOC_HUGE] = KIND(vmalloc_huge, FROM_KERNEL, vmalloc),
	[IOREMAP] = KIND(ioremap, FROM_DEVICE, ioremap),
	[MEMREMAP] = KIND(memremap, FROM_DEVICE, memremap),
};

/* --- one mapping's life ------------------------------------------------------ */

static void put_backing(struct mapping *mapping)
{
	unsigned int i;

	if (mapping->backing && mapping->fill == mapping->id)
		for (i = 0; i < mapping->pages && mapping->backing[i]; i++)
			put_page(mapping->backing[i]);
	if (mapping->fill == mapping->id)
		kvfree(mapping->backing);
}

static int alloc_backing(struct mapping *mapping)
{
	unsigned int i;

	for (i = 0; i < mapping->pages; i++) {
		mapping->backing[i] = alloc_page(GFP_KERNEL);
		if (!mapping->backing[i])
			return -ENOMEM;
	}
	return 0;
}

/* Hold the pages that the kernel chose, so that they outlive their mapping. */
static void hold_backing(struct mapping *mapping)
{
	unsigned int i;

	for (i = 0; i < mapping->pages; i++) {
		mapping->backing[i] =
			vmalloc_to_page(mapping->addr + ((size_t)i << PAGE_SHIFT));
		get_page(mapping->backing[i]);
	}
}

static void fill_pages(const struct mapping *mapping)
{
	unsigned int page, word;

	for (page = 0; page < mapping->pages; page++) {
		u64 *words = mapping->addr + ((size_t)page << PAGE_SHIFT);
		u64 base = MAGIC << 56 | (u64)mapping->id << 32 |
			   (u64)(page & 0xffff) << 16;

		for (word = 0; word < PAGE_SIZE / sizeof(u64); word++)
			words[word] = base | word;
		cond_resched();
	}
}

static void unmap(struct mapping *mapping)
{
	mapping->kind->unmap(mapping);
	mapping->live = false;
}

static void destroy(struct mapping *mapping)
{
	if (mapping->live)
		unmap(mapping);
	put_backing(mapping);
	kfree(mapping);
}

/* Map what *mapping describes, by map(), and fill it unless it shows another's. */
static int establish(struct mapping *mapping, void (*map)(struct mapping *))
{
	bool own_pages = mapping->kind->source != FROM_DEVICE && !mapping->backing;

	if (own_pages) {
		mapping->fill = mapping->id;
		mapping->backing = kvcalloc(mapping->pages, sizeof(struct page *),
					    GFP_KERNEL);
		if (!mapping->backing)
			return -ENOMEM;
		if (mapping->kind->source == FROM_US && alloc_backing(mapping))
			return -ENOMEM;
	}
	map(mapping);
	if (!mapping->addr)
		return -ENOMEM;
	mapping->live = true;
	if (mapping->kind->source == FROM_KERNEL)
		hold_backing(mapping);
	if (own_pages)
		fill_pages(mapping);
	return 0;
}

/* Return a mapping made after a description, or an ERR_PTR. */
static struct mapping *create(const struct mapping *description,
			      void (*map)(struct mapping *))
{
	struct mapping *mapping = kmemdup(description, sizeof(*mapping), GFP_KERNEL);
	int error;

	if (!mapping)
		return ERR_PTR(-ENOMEM);
	error = establish(mapping, map);
	if (error) {
		destroy(mapping);
		return ERR_PTR(error);
	}
	return mapping;
}

/* --- sets of mappings: the truth that is published --------------------------- */

static struct mapping *add_by(struct mapping_set *set, void (*map)(struct mapping *),
			      struct mapping description)
{
	struct mapping *mapping;

	if (last_id == MAX_ID)
		return ERR_PTR(-ENOSPC);
	if (fatal_signal_pending(current))
		return ERR_PTR(-EINTR);
	description.id = last_id + 1;
	mapping = create(&description, map);
	if (IS_ERR(mapping))
		return mapping;
	last_id++;
	list_add_tail(&mapping->list, &set->mappings);
	changes++;
	set->live++;
	set->live_pages += mapping->pages;
	cond_resched();
	return mapping;
}

static struct mapping *add(struct mapping_set *set, struct mapping description)
{
	return add_by(set, description.kind->map, description);
}

static void count_out(struct mapping_set *set, const struct mapping *mapping)
{
	set->live--;
	set->live_pages -= mapping->pages;
}

/* Unmap, but keep the pages and the line that says what was there. */
static void release(struct mapping_set *set, struct mapping *mapping)
{
	count_out(set, mapping);
	set->freed++;
	unmap(mapping);
}

/* Remove the newest mappings until so many are left. */
static void shrink(struct mapping_set *set, unsigned long left)
{
	while (set->live + set->freed > left) {
		struct mapping *mapping =
			list_last_entry(&set->mappings, struct mapping, list);

		if (mapping->live)
			count_out(set, mapping);
		else
			set->freed--;
		list_del(&mapping->list);
		changes++;
		destroy(mapping);
		cond_resched();
	}
}

/* --- the base set ------------------------------------------------------------ */

static const unsigned int block_mappings[] = { 1, 2, 3, 4, 5, 7, 8, 16, 31, 33, 64 };

/* Pages in a vmap_block: 128 GiB (128 MiB) shared out as mm/vmalloc.c does. */
static unsigned int block_pages(void)
{
	u64 space = BITS_PER_LONG == 64 ? 128ULL << 30 : 128ULL << 20;
	u64 share = (space >> PAGE_SHIFT) / roundup_pow_of_two(NR_CPUS) / 16;

	return clamp_t(u64, share, 2 * BITS_PER_LONG, 1024);
}

/* On the current CPU, fill more than one block, and free every third mapping. */
static long add_block_mappings(void *unused)
{
	unsigned int round_pages = 0, done = 0, i;
	struct mapping *mapping;

	while (done <= block_pages()) {
		for (i = 0; i < ARRAY_SIZE(block_mappings); i++) {
			unsigned int pages = block_mappings[i];

			mapping = add(&base_set, (struct mapping){
				.kind = &kinds[VM_MAP_RAM], .pages = pages });
			if (IS_ERR(mapping))
				return PTR_ERR(mapping);
			done += roundup_pow_of_two(pages);
			round_pages++;
		}
	}
	mapping = list_last_entry(&base_set.mappings, struct mapping, list);
	for (i = 0; i < round_pages; i++) {
		if (i % 3 == 1)
			release(&base_set, mapping);
		mapping = list_prev_entry(mapping, list);
	}
	return 0;
}

static int add_pages_of(unsigned int kind, unsigned int pages)
{
	return PTR_ERR_OR_ZERO(add(&base_set, (struct mapping){
		.kind = &kinds[kind], .pages = pages }));
}

static int add_plain(void)
{
	/* The last page array that fits a page, and one that is vmalloc()ed itself. */
	const unsigned int array_page = PAGE_SIZE / sizeof(struct page *);
	static const struct {
		unsigned int kind;
		unsigned int pages;
	} plain[] = {
		{ VM_MAP_RAM, 65 }, { VM_MAP_RAM, 100 }, { VM_MAP_RAM, 300 },
		{ VMAP, 1 }, { VMAP, 9 }, { VMAP, 70 },
		{ VMAP_PUT, 1 }, { VMAP_PUT, 6 }, { VMAP_PUT, 80 },
		{ VMALLOC, 1 }, { VMALLOC, 2 }, { VMALLOC, 17 },
		{ VMALLOC_USER, 1 }, { VMALLOC_USER, 4 },
	};
	unsigned int i;
	int error = 0;

	for (i = 0; i < ARRAY_SIZE(plain) && !error; i++)
		error = add_pages_of(plain[i].kind, plain[i].pages);
	/* With pages of 64 KiB that would be a GiB. */
	if (error || array_page * PAGE_SIZE > MAX_ARRAY_BYTES)
		return error;
	error = add_pages_of(VMALLOC, array_page);
	return error ?: add_pages_of(VMALLOC, array_page + 1);
}

static int add_on_nodes(void)
{
	int node;

	for_each_node_state(node, N_MEMORY) {
		struct mapping *mapping = add(&base_set, (struct mapping){
			.kind = &kinds[VMALLOC_NODE], .pages = 3, .node = node });

		if (IS_ERR(mapping))
			return PTR_ERR(mapping);
	}
	return 0;
}

static int add_huge(void)
{
	if (LINUX_VERSION_CODE < KERNEL_VERSION(5, 18, 0))
		kinds[VMALLOC_HUGE].absent = "not-exported";
	else if (2 * PMD_SIZE > MAX_HUGE_BYTES)
		kinds[VMALLOC_HUGE].absent = "too-large";
	else
		return add_pages_of(VMALLOC_HUGE, 2 * PMD_SIZE >> PAGE_SHIFT);
	return 0;
}

/* Map the first BAR the kernel lets us have: another driver may use one its way. */
static void add_device(void)
{
	struct pci_dev *device = NULL;
	int bar;

	device_phys = 0;
	for_each_pci_dev(device) {
		for (bar = 0; bar < PCI_STD_NUM_BARS && !device_phys; bar++) {
			phys_addr_t phys = pci_resource_start(device, bar);

			if (!(pci_resource_flags(device, bar) & IORESOURCE_MEM) ||
			    !phys || pci_resource_len(device, bar) < PAGE_SIZE)
				continue;
			if (IS_ERR(add(&base_set, (struct mapping){
				.kind = &kinds[IOREMAP], .pages = 1, .phys = phys })))
				continue;
			device_phys = phys;
		}
	}
	if (!device_phys)
		kinds[IOREMAP].absent = "no-pci-bar";
}

/*
 * Map the first whole page of a range the firmware kept, unless memremap() makes no
 * area for it. A non-zero return ends the walk.
 */
static int map_reserved(struct resource *range, void *unused)
{
	phys_addr_t phys = PAGE_ALIGN(range->start);

	if (!phys || phys + PAGE_SIZE - 1 > range->end ||
	    IS_ERR(add(&base_set, (struct mapping){
		    .kind = &kinds[MEMREMAP], .pages = 1, .phys = phys })))
		return 0;
	reserved_phys = phys;
	return 1;
}

static void add_reserved(void)
{
	static const unsigned long kept[] = { IORES_DESC_ACPI_TABLES,
					      IORES_DESC_RESERVED };
	unsigned int i;

	reserved_phys = 0;
	for (i = 0; i < ARRAY_SIZE(kept) && !reserved_phys; i++)
		walk_iomem_res_desc(kept[i], IORESOURCE_MEM, 0, -1, NULL, map_reserved);
	if (!reserved_phys)
		kinds[MEMREMAP].absent = "no-reserved-memory";
}

static int add_base_set(void)
{
	long error;
	int cpu;

	for_each_online_cpu(cpu) {
		error = work_on_cpu(cpu, add_block_mappings, NULL);
		if (error)
			return error;
	}
	error = add_plain();
	if (!error)
		error = add_on_nodes();
	if (!error)
		error = add_huge();
	if (error)
		return error;
	add_device();
	add_reserved();
	return 0;
}

/* --- commands that change what there is -------------------------------------- */

static int resize(struct mapping_set *set, unsigned long wanted,
		  void (*map)(struct mapping *))
{
	shrink(set, wanted);
	while (set->live < wanted) {
		struct mapping *mapping = add_by(set, map, (struct mapping){
			.kind = &kinds[VMALLOC], .pages = 1 });

		if (IS_ERR(mapping))
			return PTR_ERR(mapping);
	}
	return 0;
}

static int command_many(const char *arguments)
{
	unsigned long wanted;
	int error = kstrtoul(arguments, 0, &wanted);

	return error ?: resize(&many_set, wanted, vmap_lab_many);
}

static int command_leak(const char *arguments)
{
	unsigned long more;
	int error = kstrtoul(arguments, 0, &more);

	if (error)
		return error;
	return resize(&leak_set, more ? leak_set.live + more : 0, vmap_lab_leak);
}

/* On the current CPU, use up as many pages as a block has, and free the last ones. */
static long add_full_block(void *first_mapping)
{
	struct mapping *owner = first_mapping, *mapping = owner;
	unsigned int used;

	for (used = 0; used < block_pages(); used += MAX_BLOCK_MAPPING) {
		mapping = add(&blocks_set, (struct mapping){
			.kind = &kinds[VM_MAP_RAM],
			.pages = MAX_BLOCK_MAPPING,
			.backing = owner ? owner->backing : NULL,
			.fill = owner ? owner->id : 0 });
		if (IS_ERR(mapping))
			return PTR_ERR(mapping);
		if (!owner)
			owner = mapping;
	}
	release(&blocks_set, mapping);
	return 0;
}

static int command_blocks(const char *arguments)
{
	unsigned int in_block = block_pages() / MAX_BLOCK_MAPPING;
	unsigned int cpu = cpumask_first(cpu_online_mask);
	unsigned long wanted;
	long error = kstrtoul(arguments, 0, &wanted);

	if (error)
		return error;
	shrink(&blocks_set, wanted * in_block);
	while (!error && blocks_set.live + blocks_set.freed < wanted * in_block) {
		struct mapping *first = list_first_entry_or_null(
			&blocks_set.mappings, struct mapping, list);

		error = work_on_cpu(cpu, add_full_block, first);
		cpu = cpumask_next(cpu, cpu_online_mask);
		if (cpu >= nr_cpu_ids)
			cpu = cpumask_first(cpu_online_mask);
		if (!error && fatal_signal_pending(current))
			error = -EINTR;
	}
	return error;
}

static int command_aliases(const char *arguments)
{
	unsigned long wanted;
	int error = kstrtoul(arguments, 0, &wanted);

	if (error)
		return error;
	shrink(&aliases_set, wanted);
	while (aliases_set.live < wanted) {
		struct mapping *first = list_first_entry_or_null(
			&aliases_set.mappings, struct mapping, list);
		struct mapping *mapping = add(&aliases_set, (struct mapping){
			.kind = &kinds[VMAP],
			.pages = ALIAS_PAGES,
			.backing = first ? first->backing : NULL,
			.fill = first ? first->id : 0 });

		if (IS_ERR(mapping))
			return PTR_ERR(mapping);
	}
	return 0;
}

static int command_lazy(const char *arguments)
{
	static const struct {
		unsigned int kind;
		unsigned int pages;
	} lazy[] = { { VMALLOC, 3 }, { VMAP, 5 }, { VM_MAP_RAM, 70 } };
	unsigned long count;
	int error = kstrtoul(arguments, 0, &count);

	while (!error && count--) {
		unsigned int i;

		for (i = 0; i < ARRAY_SIZE(lazy); i++) {
			struct mapping *mapping = add(&base_set, (struct mapping){
				.kind = &kinds[lazy[i].kind],
				.pages = lazy[i].pages });

			if (IS_ERR(mapping))
				return PTR_ERR(mapping);
			release(&base_set, mapping);
		}
	}
	return error;
}

static int command_purge(const char *arguments)
{
	if (*arguments)
		return -EINVAL;
	vm_unmap_aliases();
	return 0;
}

/* --- address space without memory -------------------------------------------- */

/* Return a physical range of that size that holds nothing at all, or 0. */
static phys_addr_t nothing_of(u64 size)
{
	u64 phys = 4ULL << 30;

	if (size > MAX_RESERVE)
		return 0;
	for (; phys <= MAX_RESERVE; phys <<= 1)
		if (region_intersects(phys, size, IORESOURCE_MEM, IORES_DESC_NONE) ==
		    REGION_DISJOINT)
			return phys;
	return 0;
}

static int command_reserve(const char *arguments)
{
	unsigned long count;
	u64 size;

	if (!strcmp(arguments, "0")) {
		shrink(&reserve_set, 0);
		return 0;
	}
	if (!strcmp(arguments, "less")) {
		shrink(&reserve_set, max(reserve_set.live, 1UL) - 1);
		return 0;
	}
	if (sscanf(arguments, "%lu %lli", &count, (long long *)&size) != 2 || !size ||
	    !IS_ALIGNED(size, PAGE_SIZE) || !nothing_of(size))
		return -EINVAL;
	while (count--) {
		struct mapping *mapping = add(&reserve_set, (struct mapping){
			.kind = &kinds[IOREMAP],
			.pages = size >> PAGE_SHIFT,
			.phys = nothing_of(size) });

		if (IS_ERR(mapping))
			return PTR_ERR(mapping);
	}
	return 0;
}

/* Map one page again and again: address space of any size, without the memory. */
static void *try_vmap(u64 size)
{
	unsigned long count = size >> PAGE_SHIFT, i;
	struct page **pages = kvmalloc_array(count, sizeof(*pages), GFP_KERNEL);
	struct page *page = alloc_page(GFP_KERNEL);
	void *addr = NULL;

	if (pages && page) {
		for (i = 0; i < count; i++)
			pages[i] = page;
		addr = vmap(pages, count, VM_MAP, PAGE_KERNEL);
		vunmap(addr);
	}
	if (page)
		__free_page(page);
	kvfree(pages);
	return addr;
}

static void *try_ioremap(u64 size)
{
	void __iomem *addr = ioremap(nothing_of(size), size);

	if (addr)
		iounmap(addr);
	return (void __force *)addr;
}

static void note_try(u64 size, u64 align, const char *by, void *addr)
{
	scnprintf(last_try, sizeof(last_try),
		  "try size=%llu align=%llu by=%s result=%s addr=0x%lx\n", size, align,
		  by, addr ? "fits" : "fails", (unsigned long)addr);
}

static int command_try(const char *arguments)
{
	u64 size, align, natural;
	const char *by;
	void *addr;

	if (sscanf(arguments, "%lli %lli", (long long *)&size, (long long *)&align) != 2 ||
	    !size || !IS_ALIGNED(size, PAGE_SIZE))
		return -EINVAL;
	/* ioremap() is the one exported call that aligns an area: to its size. */
	natural = 1ULL << clamp_t(int, order_base_2(size), PAGE_SHIFT,
				  IOREMAP_MAX_ORDER);
	if (align == PAGE_SIZE && size >> PAGE_SHIFT <= totalram_pages()) {
		by = "vmap";
		addr = try_vmap(size);
	} else if (align == natural && nothing_of(size)) {
		by = "ioremap";
		addr = try_ioremap(size);
	} else {
		return -EOPNOTSUPP;
	}
	note_try(size, align, by, addr);
	return 0;
}

/* --- functions that are not exported ------------------------------------------- */

static int set_probe(struct kprobe *probe, const char *name, unsigned int offset)
{
	*probe = (struct kprobe){
		.symbol_name = name, .offset = offset, .flags = KPROBE_FLAG_DISABLED,
	};
	return register_kprobe(probe);
}

/* Return where a function begins, or NULL: the kernel tells where a kprobe of it is. */
static void *unexported(const char *name)
{
	struct kprobe probe;
	char place[KSYM_SYMBOL_LEN];
	unsigned long addr;

	/* riscv takes none where ftrace has two instructions, but one behind them. */
	if (set_probe(&probe, name, 0) && set_probe(&probe, name, 8))
		return NULL;
	addr = (unsigned long)probe.addr;
	unregister_kprobe(&probe);
	/* That may be behind what functions begin with, such as ENDBR. */
	sprint_symbol(place, addr);
	return (void *)(addr - simple_strtoul(strchr(place, '+') + 1, NULL, 16));
}

/* Return an area at this very place, its guard page the last one, or NULL. */
static struct vm_struct *area_at(unsigned long addr, unsigned long size)
{
	struct vm_struct *(*get)(unsigned long size, unsigned long flags,
				 unsigned long start, unsigned long end,
				 const void *caller);

	get = unexported("__get_vm_area_caller");
	/* The caller is one that anybody could be. */
	return get ? get(size - PAGE_SIZE, VM_MAP, addr, addr + size, vfree) : NULL;
}

#define MAX_TAKEN 8

static struct vm_struct *taken[MAX_TAKEN];
static unsigned int taken_count;

static void free_taken(void)
{
	while (taken_count)
		free_vm_area(taken[--taken_count]);
}

static int command_take(const char *arguments)
{
	unsigned long addr, size;

	if (!strcmp(arguments, "0")) {
		free_taken();
		return 0;
	}
	if (taken_count == MAX_TAKEN ||
	    sscanf(arguments, "%li %li", (long *)&addr, (long *)&size) != 2 ||
	    size <= PAGE_SIZE || !IS_ALIGNED(addr | size, PAGE_SIZE))
		return -EINVAL;
	taken[taken_count] = area_at(addr, size);
	if (!taken[taken_count])
		return -ENOMEM;
	taken_count++;
	return 0;
}

/*
 * Since commit 12af2b83d0b1 ("mm: introduce execmem_alloc() and execmem_free()") (in
 * v6.10) memory of modules comes from there, and is of several types.
 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 10, 0)
#define MODULE_ALLOCATOR "execmem_alloc"

static void *try_allocator(void *function, u64 size, bool is_text)
{
	void *(*alloc)(enum execmem_type type, size_t size) = function;
	void (*free)(void *addr) = unexported("execmem_free");
	void *addr = NULL;

	if (free)
		addr = alloc(is_text ? EXECMEM_MODULE_TEXT : EXECMEM_MODULE_DATA, size);
	if (addr)
		free(addr);
	return addr;
}
#else
#define MODULE_ALLOCATOR "module_alloc"

static void *try_allocator(void *function, u64 size, bool is_text)
{
	void *(*alloc)(unsigned long size) = function;
	void *addr = alloc(size);

	vfree(addr);
	return addr;
}
#endif

static int command_try_module(const char *arguments)
{
	void *function = unexported(MODULE_ALLOCATOR), *addr;
	char type[8];
	u64 size;

	if (sscanf(arguments, "%7s %lli", type, (long long *)&size) != 2 || !size ||
	    (strcmp(type, "text") && strcmp(type, "data")))
		return -EINVAL;
	if (!function)
		return -EOPNOTSUPP;
	/* What the kernel says in between of a failure is no complaint. */
	pr_info("vmap_lab: trying for a module\n");
	addr = try_allocator(function, size, !strcmp(type, "text"));
	pr_info("vmap_lab: tried for a module\n");
	note_try(size, PAGE_SIZE, MODULE_ALLOCATOR, addr);
	return 0;
}

/* --- areas of known owners, and what only seems to own them ---------------------- */

/* The last node pools no areas of so many pages, but frees their addresses. */
#define PLANT_PAGES 300
#define PLANT_OBJECTS 64
#define PLANT_BYTES 192
#define PLANT_WORD 5	/* of objects and pages, whose allocators keep their own in others */

enum plant { NOBODY, VARIABLE, OBJECT, FREED_OBJECT, FREED_PAGE, REUSED, PLANTS };

static const char *const plant_names[PLANTS] = {
	[NOBODY] = "nobody",		 [VARIABLE] = "variable",
	[OBJECT] = "object",		 [FREED_OBJECT] = "freed-object",
	[FREED_PAGE] = "freed-page",	 [REUSED] = "reused",
};

/* Complements, as nothing else here is to point at these areas. */
static unsigned long plants[PLANTS];
static struct vm_struct *reused_area;
static struct kmem_cache *plant_cache;
static unsigned long *plant_objects[PLANT_OBJECTS];

/* The first is in use, the others are left over; nobody reads them. */
static void *volatile vmap_lab_pointer;
static void *volatile vmap_lab_stale_pointer;
static void *volatile vmap_lab_reused_pointer;

static noinline void *vmap_lab_plant(unsigned int pages)
{
	return vmalloc((unsigned long)pages << PAGE_SHIFT);
}

static void uproot(void)
{
	unsigned int i;

	if (reused_area)
		free_vm_area(reused_area);
	reused_area = NULL;
	for (i = 0; i < REUSED; i++)
		if (plants[i])
			vfree((void *)~plants[i]);
	memset(plants, 0, sizeof(plants));
	for (i = 0; i < PLANT_OBJECTS; i++) {
		if (plant_objects[i])
			kmem_cache_free(plant_cache, plant_objects[i]);
		plant_objects[i] = NULL;
	}
	kmem_cache_destroy(plant_cache);
	plant_cache = NULL;
	vmap_lab_pointer = NULL;
	vmap_lab_stale_pointer = NULL;
	vmap_lab_reused_pointer = NULL;
}

/* A cache with a constructor is merged with no other, and its objects keep all words. */
static void construct(void *object)
{
}

/* Every other object is freed: their pages have some of both. */
static int plant_in_objects(void)
{
	unsigned int i;

	plant_cache = kmem_cache_create("vmap_lab_plant", PLANT_BYTES, 0, 0, construct);
	if (!plant_cache)
		return -ENOMEM;
	for (i = 0; i < PLANT_OBJECTS; i++) {
		plant_objects[i] = kmem_cache_alloc(plant_cache, GFP_KERNEL);
		if (!plant_objects[i])
			return -ENOMEM;
		plant_objects[i][PLANT_WORD] = ~plants[i % 2 ? FREED_OBJECT : OBJECT];
	}
	for (i = 1; i < PLANT_OBJECTS; i += 2) {
		kmem_cache_free(plant_cache, plant_objects[i]);
		plant_objects[i] = NULL;
	}
	return 0;
}

static int plant_in_page(void)
{
	unsigned long *words = (unsigned long *)__get_free_page(GFP_KERNEL);

	if (!words)
		return -ENOMEM;
	words[PLANT_WORD] = ~plants[FREED_PAGE];
	free_page((unsigned long)words);
	return 0;
}

/* Free two areas to which variables go on pointing, and give one's place to another. */
static int plant_in_variables(void)
{
	vmap_lab_pointer = (void *)~plants[VARIABLE];
	vmap_lab_stale_pointer = vmap_lab_plant(PLANT_PAGES);
	vmap_lab_reused_pointer = vmap_lab_plant(PLANT_PAGES);
	if (!vmap_lab_stale_pointer || !vmap_lab_reused_pointer)
		return -ENOMEM;
	vfree(vmap_lab_reused_pointer);
	vm_unmap_aliases();
	reused_area = area_at((unsigned long)vmap_lab_reused_pointer,
			      (PLANT_PAGES + 1UL) << PAGE_SHIFT);
	vfree(vmap_lab_stale_pointer);
	if (!reused_area)
		return -EBUSY;
	plants[REUSED] = ~(unsigned long)vmap_lab_reused_pointer;
	plant_objects[0][PLANT_WORD + 1] = ~plants[REUSED];
	return 0;
}

static int command_plant(const char *arguments)
{
	unsigned int i;
	int error;

	uproot();
	if (!strcmp(arguments, "0"))
		return 0;
	if (*arguments)
		return -EINVAL;
	for (i = 0; i < REUSED; i++) {
		unsigned long addr = (unsigned long)vmap_lab_plant(1);

		if (!addr)
			return -ENOMEM;
		plants[i] = ~addr;
	}
	error = plant_in_objects();
	if (!error)
		error = plant_in_page();
	return error ?: plant_in_variables();
}

/* --- damage: a word of the kernel's is changed, and changed back -------------- */

static int command_poke(const char *arguments)
{
	unsigned long address, word;

	if (sscanf(arguments, "%li %li", (long *)&address, (long *)&word) != 2 ||
	    address < PAGE_OFFSET || !IS_ALIGNED(address, sizeof(word)))
		return -EINVAL;
	WRITE_ONCE(*(unsigned long *)address, word);
	return 0;
}

/* --- stress: threads that map and unmap all kinds ----------------------------- */

#define STRESS_SLOTS 32

static DEFINE_PER_CPU(struct task_struct *, stressor);
static bool stress_running;
static atomic_long_t stress_made, stress_unmade, stress_failed;

static struct mapping *stress_mapping(void)
{
	struct mapping description = {
		.kind = &kinds[get_random_u32() % ARRAY_SIZE(kinds)],
		.id = 1 + get_random_u32() % MAX_ID,
		.pages = 1 + get_random_u32() % 20,
		.node = NUMA_NO_NODE,
	};

	if (description.kind->absent)
		return ERR_PTR(-EAGAIN);
	if (description.kind->source == FROM_DEVICE) {
		description.pages = 1;
		description.phys = description.kind == &kinds[IOREMAP] ?
					   device_phys : reserved_phys;
	} else if (get_random_u32() % 16 == 0) {
		/* Beyond blocks; beyond a page of page pointers where pages are 4K. */
		description.pages *= 40;
	}
	return create(&description, description.kind->map);
}

static int stress(void *unused)
{
	struct mapping *slots[STRESS_SLOTS] = {};
	unsigned int i;

	while (!kthread_should_stop()) {
		struct mapping **slot = &slots[get_random_u32() % STRESS_SLOTS];

		if (*slot) {
			destroy(*slot);
			*slot = NULL;
			atomic_long_inc(&stress_unmade);
		} else {
			struct mapping *mapping = stress_mapping();

			if (!IS_ERR(mapping)) {
				*slot = mapping;
				atomic_long_inc(&stress_made);
			} else if (PTR_ERR(mapping) != -EAGAIN) {
				atomic_long_inc(&stress_failed);
			}
		}
		cond_resched();
	}
	for (i = 0; i < STRESS_SLOTS; i++)
		if (slots[i]) {
			destroy(slots[i]);
			atomic_long_inc(&stress_unmade);
		}
	return 0;
}

static void stop_stress(void)
{
	int cpu;

	for_each_possible_cpu(cpu) {
		struct task_struct **task = per_cpu_ptr(&stressor, cpu);

		if (*task)
			kthread_stop(*task);
		*task = NULL;
	}
	stress_running = false;
}

static int start_stress(void)
{
	int cpu;

	stress_running = true;
	for_each_online_cpu(cpu) {
		struct task_struct *task =
			kthread_create(stress, NULL, "vmap_lab/%d", cpu);

		if (IS_ERR(task)) {
			stop_stress();
			return PTR_ERR(task);
		}
		kthread_bind(task, cpu);
		*per_cpu_ptr(&stressor, cpu) = task;
		wake_up_process(task);
	}
	return 0;
}

static int command_stress(const char *arguments)
{
	if (!strcmp(arguments, "start"))
		return stress_running ? -EBUSY : start_stress();
	if (strcmp(arguments, "stop"))
		return -EINVAL;
	stop_stress();
	return 0;
}

static void remove_all(void)
{
	unsigned int i;

	stop_stress();
	uproot();
	free_taken();
	for (i = 0; i < ARRAY_SIZE(sets); i++)
		shrink(sets[i], 0);
}

/*
 * On the current CPU, hand out all that begun blocks have left, and one block more: a
 * fresh one tells that there was no other, and would be a begun one itself.
 */
static long use_up_blocks(void *unused)
{
	unsigned long block_bytes = (unsigned long)block_pages() << PAGE_SHIFT;
	bool fresh = false;
	struct mapping *mapping;
	unsigned long inside;

	do {
		mapping = add(&base_set, (struct mapping){
			.kind = &kinds[VM_MAP_RAM], .pages = 1 });
		if (IS_ERR(mapping))
			return PTR_ERR(mapping);
		inside = (unsigned long)mapping->addr % block_bytes;
		fresh |= inside == 0;
	} while (!fresh || inside + PAGE_SIZE < block_bytes);
	return 0;
}

static int command_reset(const char *arguments)
{
	unsigned int i;
	long error;
	int cpu;

	if (*arguments)
		return -EINVAL;
	stop_stress();
	/*
	 * A block dies with its last page only if it was handed out in full. Since commit
	 * 77e50af07f14 ("mm/vmalloc: dont purge usable blocks unnecessarily") (in v6.5)
	 * vm_unmap_aliases() spares begun ones of which a quarter is left.
	 */
	for_each_online_cpu(cpu) {
		error = work_on_cpu(cpu, use_up_blocks, NULL);
		if (error)
			return error;
	}
	/* The oldest mapping stays: the init text that made it is gone. */
	for (i = 0; i < ARRAY_SIZE(sets); i++)
		shrink(sets[i], sets[i] == &base_set);
	uproot();
	free_taken();
	last_try[0] = '\0';
	vm_unmap_aliases();
	return add_base_set();
}

/* --- /proc/vmap_lab ---------------------------------------------------------- */

static const struct {
	const char *name;
	int (*run)(const char *arguments);
} commands[] = {
	{ "aliases", command_aliases }, { "blocks", command_blocks },
	{ "lazy", command_lazy },       { "leak", command_leak },
	{ "many", command_many },       { "plant", command_plant },
	{ "poke", command_poke },       { "purge", command_purge },
	{ "reserve", command_reserve }, { "reset", command_reset },
	{ "stress", command_stress },   { "take", command_take },
	{ "try", command_try },         { "try_module", command_try_module },
};

static int run_command(char *line)
{
	char *arguments = strim(line);
	const char *name = strsep(&arguments, " ");
	unsigned int i;
	int error;

	for (i = 0; i < ARRAY_SIZE(commands); i++) {
		if (strcmp(name, commands[i].name))
			continue;
		error = mutex_lock_killable(&lab_lock);
		if (error)
			return error;
		error = commands[i].run(arguments ?: "");
		mutex_unlock(&lab_lock);
		return error;
	}
	return -EINVAL;
}

static ssize_t lab_write(struct file *file, const char __user *buffer, size_t length,
			 loff_t *position)
{
	char *line;
	int error;

	if (length > 128)
		return -EINVAL;
	line = memdup_user_nul(buffer, length);
	if (IS_ERR(line))
		return PTR_ERR(line);
	error = run_command(line);
	kfree(line);
	return error ?: length;
}

static void show_header(struct seq_file *text)
{
	unsigned int i;

	seq_printf(text, "lab page_size=%lu\n", PAGE_SIZE);
	for (i = 0; i < ARRAY_SIZE(kinds); i++)
		if (kinds[i].absent)
			seq_printf(text, "absent kind=%s reason=%s\n", kinds[i].name,
				   kinds[i].absent);
	for (i = 0; i < ARRAY_SIZE(sets); i++)
		seq_printf(text,
			   "set name=%s file=%s caller=%s live=%lu pages=%lu freed=%lu\n",
			   sets[i]->name, sets[i]->file, sets[i]->caller,
			   sets[i]->live, sets[i]->live_pages, sets[i]->freed);
	seq_printf(text, "stress running=%d made=%ld unmade=%ld failed=%ld\n",
		   stress_running, atomic_long_read(&stress_made),
		   atomic_long_read(&stress_unmade), atomic_long_read(&stress_failed));
	seq_puts(text, last_try);
	for (i = 0; i < PLANTS; i++)
		if (plants[i])
			seq_printf(text, "plant name=%s addr=0x%lx\n", plant_names[i],
				   ~plants[i]);
}

static void show_run(struct seq_file *text, unsigned long first, unsigned long last)
{
	seq_printf(text, "%lu", first);
	if (last != first)
		seq_printf(text, "-%lu", last);
}

/* Print page frame numbers, those that follow one another as FIRST-LAST. */
static void show_pfns(struct seq_file *text, const struct mapping *mapping)
{
	unsigned int page = 0;

	while (page < mapping->pages) {
		unsigned long first = page_to_pfn(mapping->backing[page]);
		unsigned long last = first;

		if (page)
			seq_putc(text, ',');
		while (++page < mapping->pages &&
		       page_to_pfn(mapping->backing[page]) == last + 1)
			last++;
		show_run(text, first, last);
	}
}

static void show_mapping(struct seq_file *text, const struct mapping *mapping)
{
	const struct kind *kind = mapping->kind;
	bool in_block = kind == &kinds[VM_MAP_RAM] &&
			mapping->pages <= MAX_BLOCK_MAPPING;

	seq_printf(text, "map id=%u kind=%s state=%s addr=0x%lx pages=%u area=%s",
		   mapping->id, kind->name, mapping->live ? "live" : "freed",
		   (unsigned long)mapping->addr, mapping->pages,
		   in_block ? "block" : "own");
	if (kind == &kinds[VM_MAP_RAM])
		seq_printf(text, " cpu=%d", mapping->cpu);
	if (kind == &kinds[VMALLOC_NODE])
		seq_printf(text, " node=%d", mapping->node);
	if (kind->source == FROM_DEVICE) {
		unsigned long pfn = mapping->phys >> PAGE_SHIFT;

		seq_printf(text, " phys=0x%llx pfns=", (unsigned long long)mapping->phys);
		show_run(text, pfn, pfn + mapping->pages - 1);
	} else {
		seq_printf(text, " fill=%u pfns=", mapping->fill);
		show_pfns(text, mapping);
	}
	seq_putc(text, '\n');
}

#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 17, 0)
#define pde_data PDE_DATA
#endif

static struct mapping_set *set_of(struct seq_file *text)
{
	return pde_data(file_inode(text->file));
}

/* Where a reader stopped: without it, each read() would walk the list from its head. */
struct cursor {
	struct list_head *element;
	loff_t position;
	unsigned long changes;
};

static struct list_head *remember(struct seq_file *text, struct list_head *element,
				  loff_t position)
{
	struct cursor *cursor = text->private;

	*cursor = (struct cursor){ element, position, changes };
	return element;
}

/* The first element is the list's head, which stands for the header. */
static void *lab_start(struct seq_file *text, loff_t *position)
{
	struct cursor *cursor = text->private;

	mutex_lock(&lab_lock);
	if (cursor->position == *position && cursor->changes == changes)
		return cursor->element;
	return remember(text, seq_list_start_head(&set_of(text)->mappings, *position),
			*position);
}

static void *lab_next(struct seq_file *text, void *element, loff_t *position)
{
	element = seq_list_next(element, &set_of(text)->mappings, position);
	return remember(text, element, *position);
}

static void lab_stop(struct seq_file *text, void *element)
{
	mutex_unlock(&lab_lock);
}

static int lab_show(struct seq_file *text, void *element)
{
	if (element != &set_of(text)->mappings)
		show_mapping(text, list_entry(element, struct mapping, list));
	else if (set_of(text) == &base_set)
		show_header(text);
	return 0;
}

static const struct seq_operations lab_lines = {
	.start = lab_start,
	.next = lab_next,
	.stop = lab_stop,
	.show = lab_show,
};

static int lab_open(struct inode *inode, struct file *file)
{
	return seq_open_private(file, &lab_lines, sizeof(struct cursor));
}

static const struct proc_ops lab_file = {
	.proc_open = lab_open,
	.proc_read = seq_read,
	.proc_write = lab_write,
	.proc_lseek = seq_lseek,
	.proc_release = seq_release_private,
};

static void remove_files(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(sets); i++)
		remove_proc_entry(sets[i]->file, NULL);
}

static int __init create_files(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(sets); i++) {
		umode_t mode = sets[i] == &base_set ? 0600 : 0400;

		if (!proc_create_data(sets[i]->file, mode, NULL, &lab_file, sets[i]))
			goto fail;
	}
	return 0;
fail:
	while (i--)
		remove_proc_entry(sets[i]->file, NULL);
	return -ENOMEM;
}

static int __init vmap_lab_init(void)
{
	struct mapping *first = add_by(&base_set, map_from_init_text, (struct mapping){
		.kind = &kinds[VMALLOC], .pages = 1 });
	int error = PTR_ERR_OR_ZERO(first);

	if (!error)
		error = add_base_set();
	if (!error)
		error = create_files();
	if (error)
		remove_all();
	return error;
}

static void __exit vmap_lab_exit(void)
{
	remove_files();
	remove_all();
}

module_init(vmap_lab_init);
module_exit(vmap_lab_exit);
MODULE_AUTHOR("drgn_vmap authors");
MODULE_DESCRIPTION("Mappings in the vmalloc range with known contents");
MODULE_LICENSE("GPL");
