# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Variables
---------

The C types of variables. BTF tells the types of few variables, those that there is
one of for each CPU at best, so the types of those that we or drgn's own helpers read
stand here. All of them are the same in each kernel that has the variable.
"""

from dataclasses import dataclass
from typing import Callable, Dict, Optional

from drgn import Program, Type, filename_matches

__all__ = ("NAMES", "variable_type")

_VMALLOC_C = "mm/vmalloc.c"


@dataclass(frozen=True)
class _Variable:
    type: str
    file: Optional[str] = None
    """Where it is defined, if it is asked for by that."""
    length: Optional[Callable[[Program], int]] = None
    """Of an array."""


def variable_type(prog: Program, name: str, filename: Optional[str]) -> Optional[Type]:
    """
    Return the type of a variable of the kernel, or None if it is not known here.

    :raises LookupError: if this kernel has no such type.
    """
    variable = _VARIABLES.get(name)
    if variable is None or not filename_matches(variable.file, filename):
        return None
    type_ = prog.type(variable.type)
    if variable.length is None:
        return type_
    return prog.array_type(type_, variable.length(prog))


def _nr_cpus(prog: Program) -> int:
    """Return NR_CPUS, a macro, rounded up to bits of words."""
    bits = prog.type("struct cpumask").member("bits").type
    return 8 * bits.type.size * (bits.length or 0)


def _max_numnodes(prog: Program) -> int:
    """Return MAX_NUMNODES, a macro: a zonelist has each zone of each node."""
    zones = prog.type("struct zonelist").member("_zonerefs").type.length or 0
    return (zones - 1) // int(prog.constant("__MAX_NR_ZONES").value_())


def _constant(name: str) -> Callable[[Program], int]:
    return lambda prog: int(prog.constant(name).value_())


_LIST = _Variable("struct list_head", _VMALLOC_C)
_TREE = _Variable("struct rb_root", _VMALLOC_C)
_COUNTER = _Variable("atomic_long_t", _VMALLOC_C)
_CPUS = _Variable("struct cpumask")
_WORD = _Variable("unsigned long")

_VARIABLES: Dict[str, _Variable] = {
    # mm/vmalloc.c, newest first.
    "vmap_nodes": _Variable("struct vmap_node *", _VMALLOC_C),
    "nr_vmap_nodes": _Variable("unsigned int", _VMALLOC_C),
    "vmap_zone_size": _Variable("unsigned int", _VMALLOC_C),
    "single": _Variable("struct vmap_node", _VMALLOC_C),
    "free_vmap_area_list": _LIST,
    "free_vmap_area_root": _TREE,
    "vmap_area_list": _LIST,
    "vmap_area_root": _TREE,
    "purge_vmap_area_list": _LIST,
    "purge_vmap_area_root": _TREE,
    "vmap_purge_list": _Variable("struct llist_head", _VMALLOC_C),
    "vmap_purge_lock": _Variable("struct mutex", _VMALLOC_C),
    "vmap_lazy_nr": _COUNTER,
    "nr_vmalloc_pages": _COUNTER,
    "vmap_area_cachep": _Variable("struct kmem_cache *", _VMALLOC_C),
    "vmap_block_queue": _Variable("struct vmap_block_queue", _VMALLOC_C),
    "vmap_blocks": _Variable("struct xarray", _VMALLOC_C),
    # The root of an xarray or of a radix tree; all that is asked for is where it is.
    "vmap_block_tree": _Variable("unsigned long", _VMALLOC_C),
    "vm_module_tags": _Variable("struct vm_struct *", "lib/alloc_tag.c"),
    # Where vmalloc space is, and how its addresses are printed.
    "init_mm": _Variable("struct mm_struct"),
    "physical_mask": _Variable("phys_addr_t"),
    "kcore_vmalloc": _Variable("struct kcore_list", "fs/proc/kcore.c"),
    "vmalloc_base": _WORD,
    "module_load_offset": _WORD,
    "module_alloc_base": _Variable("u64"),
    "module_direct_base": _Variable("u64"),
    "module_plt_base": _Variable("u64"),
    "MODULES_VADDR": _WORD,
    "MODULES_END": _WORD,
    "execmem_cache": _Variable("struct execmem_cache", "mm/execmem.c"),
    "__vmalloc_start": _WORD,
    "__vmalloc_end": _WORD,
    "high_memory": _Variable("void *"),
    "ptr_key": _Variable("siphash_key_t", "lib/vsprintf.c"),
    "no_hash_pointers": _Variable("bool"),
    "kptr_restrict": _Variable("int"),
    "proc_root": _Variable("struct proc_dir_entry"),
    # The name of its machine.
    "init_uts_ns": _Variable("struct uts_namespace"),
    # Nodes, CPUs and pages, for drgn's helpers as well.
    "node_data": _Variable("struct pglist_data *", length=_max_numnodes),
    "contig_page_data": _Variable("struct pglist_data"),
    "node_states": _Variable("nodemask_t", length=_constant("NR_NODE_STATES")),
    "vm_node_stat": _Variable(
        "atomic_long_t", length=_constant("NR_VM_NODE_STAT_ITEMS")
    ),
    "nr_node_ids": _Variable("unsigned int"),
    "nr_cpu_ids": _Variable("unsigned int"),
    "__cpu_possible_mask": _CPUS,
    "__cpu_present_mask": _CPUS,
    "__cpu_online_mask": _CPUS,
    "__per_cpu_offset": _Variable("unsigned long", length=_nr_cpus),
    "runqueues": _Variable("struct rq"),
    "mem_section": _Variable("struct mem_section **"),
    "__highest_present_section_nr": _WORD,
    "saved_command_line": _Variable("char *"),
    "min_low_pfn": _WORD,
    "max_low_pfn": _WORD,
    "_totalram_pages": _Variable("atomic_long_t"),
    "iomem_resource": _Variable("struct resource"),
    "crashk_res": _Variable("struct resource"),
    "crashk_low_res": _Variable("struct resource"),
    "slab_caches": _Variable("struct list_head"),
    # BPF and per-CPU memory.
    "prog_idr": _Variable("struct idr", "kernel/bpf/syscall.c"),
    "map_idr": _Variable("struct idr", "kernel/bpf/syscall.c"),
    "pcpu_chunk_lists": _Variable("struct list_head *"),
    "pcpu_nr_slots": _Variable("int"),
    "pcpu_nr_groups": _Variable("int", "mm/percpu.c"),
    "pcpu_nr_units": _Variable("int", "mm/percpu.c"),
    "pcpu_nr_populated": _Variable("unsigned long", "mm/percpu.c"),
    "pcpu_first_chunk": _Variable("struct pcpu_chunk *"),
    "pcpu_reserved_chunk": _Variable("struct pcpu_chunk *"),
    "bpf_jit_current": _Variable("atomic_long_t", "kernel/bpf/core.c"),
    "bpf_jit_limit": _Variable("long"),
    # Modules, tasks and time.
    "modules": _Variable("struct list_head"),
    "btf_modules": _Variable("struct list_head", "kernel/bpf/btf.c"),
    "init_task": _Variable("struct task_struct"),
    "init_pid_ns": _Variable("struct pid_namespace"),
    "idle_threads": _Variable("struct task_struct *", "kernel/smpboot.c"),
    # NR_CACHED_STACKS is 2.
    "cached_stacks": _Variable("struct vm_struct *", "kernel/fork.c", lambda prog: 2),
    "jiffies_64": _Variable("u64"),
}

NAMES = tuple(_VARIABLES)
"""The variables whose types stand here."""
