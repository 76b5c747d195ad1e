# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
``vmap fsck``: quiet kernels are consistent, and each kind of damage is named.

Damage is done to a vmcore of a real kernel in which the fixture module has made
mappings of every kind. What is damaged is found with drgn's own helpers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Callable, Iterator

import pytest
from drgn import Object, Program, cast, container_of
from drgn.helpers.linux.mm import find_vmap_area
from drgn.helpers.linux.percpu import per_cpu
from drgn.helpers.linux.rbtree import rb_parent, rbtree_inorder_for_each_entry
from drgn.helpers.linux.xarray import xa_for_each

from drgn_vmap.analyses.fsck import run_checks
from drgn_vmap.kernel.target import Target
from drgn_vmap.kernel.vmalloc.activity import activity
from drgn_vmap.kernel.vmalloc.inspection import inspect
from drgn_vmap.model.inspection import Check, Verdict
from tests.expect.fsck import expect_all_ok
from tests.expect.live import expect_all_ok_in
from tests.running import on_vmcore

from .damage import DamagedVmcore
from .guest import Guest
from .marks import slow
from .stress import runs_under_stress
from .truth import Mapping, Truth
from .vmcore import Vmcore

LAB = "/proc/vmap_lab"
LIVE = "drgn -q -c /proc/kcore"
PAGE = 4096
VMAP_BLOCK = 0x2
POISON = 0xDEAD000000000100


@dataclass(frozen=True)
class Scene:
    """A vmcore, and what of it is there to be damaged."""

    vmcore: DamagedVmcore
    truth: Truth

    @property
    def prog(self) -> Program:
        return self.vmcore.prog

    def has(self, struct: str, member: str) -> bool:
        try:
            return self.prog.type(struct).has_member(member)
        except LookupError:
            return False

    def mapping(self, kind: str, pages: int = 1) -> Mapping:
        """Return a live mapping of at least so many pages that has its own area."""
        return next(
            m
            for m in self.truth.mappings
            if m.live and m.kind == kind and m.area == "own" and m.pages >= pages
        )

    def area(self, kind: str = "vmalloc", pages: int = 1) -> Object:
        return find_vmap_area(self.prog, self.mapping(kind, pages).address)

    def block(self) -> Object:
        """Return a block with used, freed and free pages."""
        return next(
            vb
            for vb in blocks(self.prog)
            if vb.free.value_() and vb.dirty.value_() and vb.va.va_start.value_()
        )

    def bits(self) -> int:
        va = self.block().va
        return (va.va_end.value_() - va.va_start.value_()) // PAGE

    def busy_tree(self) -> list[Object]:
        """Return the busy areas of the largest tree, by address."""
        prog = self.prog
        try:
            roots = [prog["vmap_area_root"]]
        except KeyError:
            nodes, count = prog["vmap_nodes"], prog["nr_vmap_nodes"].value_()
            roots = [nodes[index].busy.root for index in range(count)]
        trees = (
            rbtree_inorder_for_each_entry(
                "struct vmap_area", root.address_of_(), "rb_node"
            )
            for root in roots
        )
        return max((list(tree) for tree in trees), key=len)


def xarrays(prog: Program) -> list[Object]:
    """Return the xarrays of blocks; a radix tree is one by another name."""
    for name in ("vmap_blocks", "vmap_block_tree"):
        if name in prog:
            return [prog[name]]
    queue = prog["vmap_block_queue"]
    return [per_cpu(queue, cpu).vmap_blocks for cpu in (0, 1)]


def blocks(prog: Program) -> Iterator[Object]:
    """Yield all blocks, ``struct vmap_block *``."""
    for xarray in xarrays(prog):
        for _, entry in xa_for_each(xarray.address_of_()):
            yield cast("struct vmap_block *", entry)


def at(member: Object) -> int:
    """Return the address of a member."""
    assert member.address_ is not None
    return member.address_


def pte_at(prog: Program, address: int) -> int:
    """Return where the page table entry of an address lies."""
    table = prog["init_mm"].pgd.value_()
    for shift in (39, 30, 21):
        entry = prog.read_word(table + (address >> shift & 511) * 8)
        assert entry & 1 and not entry & 0x80
        table = prog["page_offset_base"].value_() + (entry & 0xFFFFFFFFFF000)
    return table + (address >> 12 & 511) * 8


def slot_of(prog: Program, entry: int, at_address: int, wanted: int) -> "int | None":
    """Return where in an xarray the entry ``wanted`` is stored."""
    if entry == wanted:
        return at_address
    if entry & 3 != 2 or entry <= 4096:
        return None
    slots = Object(prog, "struct xa_node", address=entry - 2).slots
    for slot in slots:
        found = slot_of(prog, slot.value_(), at(slot), wanted)
        if found is not None:
            return found
    return None


@dataclass(frozen=True)
class Damage:
    """Words to change, and what is to be said of it."""

    changes: dict[int, int]
    address: int
    """Which has to be named."""
    check: str


def free_too_large(scene: Scene) -> Damage:
    vb = scene.block()
    return Damage({at(vb.free): 5000}, vb.value_(), "block-counters")


def dirty_too_large(scene: Scene) -> Damage:
    vb = scene.block()
    return Damage({at(vb.dirty): scene.bits()}, vb.value_(), "block-counters")


def dirty_range_reversed(scene: Scene) -> Damage:
    vb = scene.block()
    changes = {at(vb.dirty_min): 7, at(vb.dirty_max): 3}
    return Damage(changes, vb.value_(), "block-dirty-range")


def dirty_range_too_far(scene: Scene) -> Damage:
    vb = scene.block()
    changes = {at(vb.dirty_min): 0, at(vb.dirty_max): scene.bits()}
    return Damage(changes, vb.value_(), "block-dirty-range")


def block_off_its_list(scene: Scene) -> Damage:
    vb = scene.block()
    before, after = vb.free_list.prev.read_(), vb.free_list.next.read_()
    changes = {at(before.next): after.value_(), at(after.prev): before.value_()}
    return Damage(changes, vb.value_(), "block-list")


def block_list_cycle(scene: Scene) -> Damage:
    vb = scene.block()
    link = at(vb.free_list)
    head = vb.free_list.prev
    while any(link_of(b) == head.value_() for b in blocks(scene.prog)):
        head = head.prev
    return Damage({at(vb.free_list.next): link}, head.value_(), "readable")


def link_of(vb: Object) -> int:
    return at(vb.free_list)


def block_without_xarray(scene: Scene) -> Damage:
    prog, vb = scene.prog, scene.block()
    heads = [xarray.xa_head for xarray in xarrays(prog)]
    slots = [slot_of(prog, h.value_(), at(h), vb.value_()) for h in heads]
    slot = next(found for found in slots if found is not None)
    return Damage({slot: 0}, vb.value_(), "readable")


def block_of_foreign_area(scene: Scene) -> Damage:
    vb, area = scene.block(), scene.area()
    return Damage({at(vb.va): area.value_()}, vb.value_(), "block-area")


def block_without_area(scene: Scene) -> Damage:
    vb = scene.block()
    return Damage({at(vb.va): POISON}, vb.value_(), "readable")


def mapped_but_free(scene: Scene) -> Damage:
    vb = scene.block()
    used, free = vb.va.va_start.value_(), vb.va.va_end.value_() - PAGE
    entry = scene.prog.read_word(pte_at(scene.prog, used))
    changes = {pte_at(scene.prog, free): entry}
    return Damage(changes, vb.value_(), "block-mapped")


def used_beyond_bump_pointer(scene: Scene) -> Damage:
    vb = scene.block()
    last = vb.used_map[len(vb.used_map) - 1]
    changes = {at(last): last.value_() | 1 << 63}
    return Damage(changes, vb.value_(), "block-bump-pointer")


def used_bits_lost(scene: Scene) -> Damage:
    vb = scene.block()
    return Damage({at(vb.used_map[0]): 0}, vb.value_(), "block-sum")


def block_of_no_cpu(scene: Scene) -> Damage:
    vb = scene.block()
    word = at(vb.cpu)
    return Damage({word: scene.prog.read_word(word) ^ 6}, vb.value_(), "block-list-cpu")


def swapped_children(scene: Scene) -> Damage:
    parent = next(
        va
        for va in scene.busy_tree()
        if va.rb_node.rb_left.value_() and va.rb_node.rb_right.value_()
    )
    left, right = parent.rb_node.rb_left, parent.rb_node.rb_right
    changes = {at(left): right.value_(), at(right): left.value_()}
    child = container_of(left, "struct vmap_area", "rb_node")
    return Damage(changes, child.value_(), "area-trees")


def lost_child(scene: Scene) -> Damage:
    leaf = next(va for va in scene.busy_tree() if not va.rb_node.rb_left)
    return Damage({at(leaf.rb_node.rb_left): POISON}, POISON, "readable")


def circle_in_tree(scene: Scene) -> Damage:
    tree = scene.busy_tree()
    top = next(va for va in tree if not rb_parent(va.rb_node.address_of_()))
    leaf = next(va for va in tree if not va.rb_node.rb_left)
    root = at(top.rb_node)
    return Damage({at(leaf.rb_node.rb_left): root}, root, "readable")


def list_next_wrong(scene: Scene) -> Damage:
    area = scene.area()
    return Damage({at(area.list.next): at(area.list)}, area.value_(), "area-lists")


def list_prev_wrong(scene: Scene) -> Damage:
    area = scene.area()
    return Damage({at(area.list.prev): POISON}, area.value_(), "area-lists")


def overlapping(scene: Scene) -> Damage:
    before, area = next(
        (a, b)
        for a, b in zip(scene.busy_tree(), scene.busy_tree()[1:])
        if a.va_end == b.va_start
    )
    changes = {at(before.va_end): area.va_end.value_()}
    return Damage(changes, area.value_(), "area-overlaps")


def ends_before_it_starts(scene: Scene) -> Damage:
    area = scene.area()
    return Damage({at(area.va_end): PAGE}, area.value_(), "readable")


def starts_inside_a_page(scene: Scene) -> Damage:
    area = scene.area()
    start = area.va_start.value_()
    return Damage({at(area.va_start): start + 8}, area.value_(), "readable")


def addresses_lost(scene: Scene) -> Damage:
    area = scene.area(pages=2)
    end = area.va_end.value_() - PAGE
    return Damage({at(area.va_end): end}, end, "area-gaps")


def vm_of_wrong_size(scene: Scene) -> Damage:
    vm = scene.area().vm
    return Damage({at(vm.size): vm.size.value_() + PAGE}, vm.value_(), "vm-sizes")


def vm_of_another_area(scene: Scene) -> Damage:
    area, other = scene.area("vmalloc"), scene.area("vmap_put")
    changes = {at(area.vm): other.vm.value_()}
    return Damage(changes, other.vm.value_(), "readable")


def vm_lost(scene: Scene) -> Damage:
    return Damage({at(scene.area().vm): POISON}, POISON, "readable")


def wrong_page(scene: Scene) -> Damage:
    vm = scene.area(pages=2).vm
    second = at(vm.pages[1])
    changes = {second: vm.pages[0].value_()}
    return Damage(changes, vm.value_(), "vm-pages")


def no_page(scene: Scene) -> Damage:
    vm = scene.area(pages=2).vm
    return Damage({at(vm.pages[1]): 0}, vm.value_(), "vm-pages")


def unmapped_page(scene: Scene) -> Damage:
    area = scene.area(pages=2)
    entry = pte_at(scene.prog, area.va_start.value_())
    return Damage({entry: 0}, area.vm.value_(), "vm-pages")


def wrong_largest(scene: Scene) -> Damage:
    root = scene.prog["free_vmap_area_root"].rb_node
    area = container_of(root, "struct vmap_area", "rb_node")
    changes = {at(area.subtree_max_size): PAGE}
    return Damage(changes, area.value_(), "free-tree")


def wrong_lazy_count(scene: Scene) -> Damage:
    counter = at(scene.prog["vmap_lazy_nr"].counter)
    return Damage({counter: 1 << 40}, 0, "lazy-pages")


def block_flag_alone(scene: Scene) -> Damage:
    area = scene.block().va
    return Damage({at(area.flags): VMAP_BLOCK}, area.value_(), "area-flags")


def flags_and_vm(scene: Scene) -> Damage:
    area = scene.area()
    changes = {at(area.flags): area.flags.value_() | 1}
    return Damage(changes, area.value_(), "area-flags")


def neither_flags_nor_vm(scene: Scene) -> Damage:
    area = scene.area("vm_map_ram")
    return Damage({at(area.flags): 0}, area.value_(), "area-flags")


def node_out_of_range(scene: Scene) -> Damage:
    area = scene.area()
    return Damage({at(area.flags): 0xFF00}, area.value_(), "area-node-ids")


def wrong_pool_length(scene: Scene) -> Damage:
    pool = scene.prog["vmap_nodes"][0].pool[3]
    return Damage({at(pool.len): pool.len.value_() + 1}, 0, "pools")


EVERYWHERE: tuple[Callable[[Scene], Damage], ...] = (
    free_too_large,
    dirty_too_large,
    dirty_range_reversed,
    dirty_range_too_far,
    block_off_its_list,
    block_list_cycle,
    block_without_xarray,
    block_of_foreign_area,
    block_without_area,
    mapped_but_free,
    swapped_children,
    lost_child,
    circle_in_tree,
    list_next_wrong,
    list_prev_wrong,
    overlapping,
    ends_before_it_starts,
    starts_inside_a_page,
    vm_of_wrong_size,
    vm_of_another_area,
    vm_lost,
    wrong_page,
    no_page,
    unmapped_page,
    wrong_lazy_count,
)
#: Damage to what not all kernels have, by a member that came with it.
WHERE_THERE: tuple[tuple[str, str, Callable[[Scene], Damage]], ...] = (
    ("struct vmap_block", "used_map", used_beyond_bump_pointer),
    ("struct vmap_block", "used_map", used_bits_lost),
    ("struct vmap_block", "cpu", block_of_no_cpu),
    ("struct vmap_block", "used_map", block_flag_alone),
    ("struct vmap_block", "used_map", flags_and_vm),
    ("struct vmap_block", "used_map", neither_flags_nor_vm),
    ("struct vmap_area", "subtree_max_size", addresses_lost),
    ("struct vmap_area", "subtree_max_size", wrong_largest),
    ("struct vmap_node", "pool", node_out_of_range),
    ("struct vmap_node", "pool", wrong_pool_length),
)


def failed(checks: tuple[Check, ...]) -> dict[str, Check]:
    """Return the checks that found something, by id."""
    return {check.id: check for check in checks if check.failures}


def named(check: Check) -> str:
    """Return all that a check says of what it found."""
    return " ".join(f"{f.address:#x} {f.text}" for f in check.failures)


def assert_named(scene: Scene, damage: Damage) -> None:
    """The damage is found by the check that is for it, with its address."""
    with scene.vmcore.changed(damage.changes):
        found = failed(run_checks(inspect(Target(scene.prog))))
    assert damage.check in found
    assert f"{damage.address:#x}" in named(found[damage.check])
    assert found[damage.check].verdict in (Verdict.FAILED, Verdict.EXPLAINABLE)


def test_quiet_vmcore(vmcore: Vmcore) -> None:
    """Nothing is wrong in a vmcore of a kernel where nothing is wrong."""
    expect_all_ok(on_vmcore(vmcore, "fsck")["checks"], vmcore.kernel.name)


def test_quiet_live(module_guest: Guest) -> None:
    """Nor in a live one."""
    expect_all_ok_in(module_guest, module_guest.kernel.name)


@slow
def test_stress(module_guest: Guest) -> None:
    """While areas come and go, nothing is called damage."""
    for status, out, err in runs_under_stress(module_guest, "fsck --json"):
        checks = json.loads(out)["checks"]
        assert [check for check in checks if check["verdict"] == "failed"] == []
        assert (status, err) == (0, "")


def live_fsck(guest: Guest) -> tuple[int, dict[str, dict[str, object]]]:
    """Return the exit status and the checks by id."""
    done = guest.run(f"{LIVE} scripts/vmap_fsck.py --json", timeout=600)
    checks = json.loads(done.stdout)["checks"]
    return done.status, {check["id"]: check for check in checks}


@slow
def test_live_damage(module_guest: Guest) -> None:
    """What is damaged while the kernel runs is found, and gone when it is mended."""
    module_guest.write(LAB, b"reset")
    done = module_guest.run(f"{LIVE} tests/lab/inside/live_damage.py", timeout=300)
    assert done.status == 0, done.stderr.decode()
    spots = json.loads(done.stdout)
    assert {"link", "size"} <= set(spots)
    for spot in spots.values():
        module_guest.write(LAB, f"poke {spot['where']} {spot['wrong']}".encode())
    try:
        status, checks = live_fsck(module_guest)
    finally:
        for spot in spots.values():
            module_guest.write(LAB, f"poke {spot['where']} {spot['word']}".encode())
    assert status == 1
    failed = {id_ for id_, check in checks.items() if check["verdict"] == "failed"}
    assert failed == {spot["check"] for spot in spots.values()}
    for spot in spots.values():
        assert spot["address"] in json.dumps(checks[spot["check"]]["failures"])
        assert "the same each of" in str(checks[spot["check"]]["reason"])
    status, checks = live_fsck(module_guest)
    assert status == 0
    assert [one for one in checks.values() if one["verdict"] == "failed"] == []


@pytest.fixture(scope="module")
def scene(vmcores: dict[str, Vmcore]) -> Scene:
    """The vmcore of a kernel, ready to be damaged."""
    vmcore = vmcores["elf"]
    damaged = DamagedVmcore(vmcore.path, vmcore.kernel.vmlinux)
    return Scene(damaged, Truth.parse(vmcore.truth.decode()))


def test_purge_at_work(scene: Scene) -> None:
    """Who held the lock that a purge takes is told: that may explain what is found."""
    lock, task = scene.prog["vmap_purge_lock"], at(scene.prog["init_task"])
    is_usual = scene.has("struct mutex", "owner")
    owner = lock.owner.counter if is_usual else lock.rtmutex.owner
    told = f"task {task:#x} held vmap_purge_lock"
    assert told not in activity(Target(scene.prog))
    with scene.vmcore.changed({at(owner): task}):
        assert told in activity(Target(scene.prog))


@pytest.mark.parametrize("damage", EVERYWHERE)
def test_damage(scene: Scene, damage: Callable[[Scene], Damage]) -> None:
    """Each kind of damage is named with its address, and nothing else breaks."""
    assert_named(scene, damage(scene))


@pytest.mark.parametrize("struct, member, damage", WHERE_THERE)
def test_damage_to_newer_members(
    scene: Scene, struct: str, member: str, damage: Callable[[Scene], Damage]
) -> None:
    """So is damage to what only newer kernels have."""
    if not scene.has(struct, member):
        pytest.skip(f"{struct} of this kernel has no {member}")
    assert_named(scene, damage(scene))
