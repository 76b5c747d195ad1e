# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Everything that a person or CI starts; `make` alone says what there is. What a
# fresh machine lacks is set up on the way, in .venv and with apt-get.

PYTHON ?= python3
KERNEL ?= 6.12
export CMD ?= drgn -q -c /proc/kcore scripts/vmap_ls.py

SOURCES := drgn_vmap scripts tests
# What runs on the oldest Python: all but what has to do with guests.
ON_OLDEST := drgn_vmap scripts $(filter-out tests/lab/ tests/bench/,$(wildcard tests/*.py tests/*/))
PACKAGES := tests/lab/debian-packages.txt
BIN := .venv/bin
READY := .venv/ready
RECORDS := build/records
LAB := $(BIN)/python -m tests.lab
SAMPLE := build/linux-$(KERNEL)

.DEFAULT_GOAL := help
.PHONY: help demo test test-all one-kernel lint unit installed kernels vendors configured foreign support fuzz bench \
    lab samples shell format clean packages pictures bundle deb dist

help:
	@echo 'make demo                     look at a vmcore: seconds, no root, no guest'
	@echo 'make test                     minutes: lint, unit, and areas of one kernel'
	@echo 'make test-all                 everything: lint, unit, fuzz, installed, kernels'
	@echo 'make foreign                  arm64, armhf, ppc64le, riscv64, s390x and sh: fetches 4 GB'
	@echo "make vendors                  the tests on kernels as vendors' are, built from source"
	@echo 'make configured               the same for one CPU, with KASAN, ThinLTO, PREEMPT_RT'
	@echo 'make support                  docs/support.md, from what these four recorded'
	@echo 'make lint                     formatting, style, types'
	@echo 'make unit                     the tests that need no guest: units, and the samples'
	@echo 'make installed                these on what a user installs, on the oldest Python that'
	@echo "                              is promised and the newest here; or PYTHONS='…'"
	@echo 'make kernels                  the tests on real kernels, in guests'
	@echo "make fuzz SECONDS=60 SEED=1   verbs on damaged vmcores; REPLAY=1-33 tries one again,"
	@echo "                              and more options are in FUZZ='…'"
	@echo "make bench BENCH='…'      how fast it is beside others; its options in BENCH"
	@echo "make lab KERNEL=7.3 CMD='…'   run a command in a guest; also 5.10, 6.1, 6.12, and"
	@echo '                              6.1-plain, 6.1-series, 6.1-fixed, 7.3-plain, 7.3-fixed,'
	@echo '                              5.10-rhel8, 6.1-v6.5, 6.1-gki66, 6.1-rhel9, 6.1-up,'
	@echo '                              6.1-kasan, 6.1-lto, 6.1-names, 6.1-nameless, built from'
	@echo '                              source, and 6.12-rt'
	@echo 'make shell KERNEL=7.3         a shell in a guest'
	@echo 'make samples                  make the vmcores in vmcores/ again'
	@echo 'make pictures                 take the pictures in docs/pictures again'
	@echo 'make bundle                   build/vmap.pyz: one file, for hosts without a network'
	@echo 'make deb                      a Debian package, in build/'
	@echo 'make dist                     sdist and wheel, in build/dist/'
	@echo 'make format                   let black and isort format the code'
	@echo 'make clean                    remove .venv and caches in the checkout'

# What a command answers is said before it, and the command itself is shown, to be typed
# again.
demo: $(READY)
	@$(BIN)/python -m tests.samples $(KERNEL) $(SAMPLE)
	@printf '\n## Which areas are there? As /proc/vmallocinfo has them, of a vmcore:\n'
	$(BIN)/vmap ls -c $(SAMPLE) | head -n 8
	@printf '\n## Who holds most?\n'
	$(BIN)/vmap top -c $(SAMPLE) -n 5
	@printf '\n## What is inside the blocks of vm_map_ram()?\n'
	$(BIN)/vmap blocks -c $(SAMPLE) --map
	@printf '\n## Does /proc/kcore of this kernel return what vm_map_ram() mapped?\n'
	$(BIN)/vmap verify -c $(SAMPLE) || test $$? -eq 1
	@printf '\n## Inside drgn it is %%vmap; all on one screen:\n'
	$(BIN)/drgn -q -c $(SAMPLE) -e \
	    'from drgn.commands import run_command; run_command(prog, "vmap")'
	@printf '\n## What a ticket has: a copy of /proc/vmallocinfo, before and after a leak.\n'
	$(BIN)/vmap diff docs/samples/before docs/samples/after -n 3 || test $$? -eq 1
	@printf '\n## To look at in a browser:\n'
	$(BIN)/vmap report -c $(SAMPLE) -o build/report.html
	@printf '\nNext, try:\n'
	@echo '  $(BIN)/drgn -q -c $(SAMPLE)'
	@echo '      then, at its prompt: %vmap top, %vmap help'
	@echo '  $(BIN)/vmap gaps -c $(SAMPLE) --fit 2M'
	@echo '      would 2 MiB fit?'
	@echo '  sudo $(BIN)/vmap'
	@echo '      the kernel of this machine'
	@echo '  docs/triage.md'
	@echo '      from a symptom to its cause'

# Minutes: what needs no guest, and areas of one kernel that is booted.
test: lint unit one-kernel

# What takes least and fails most comes first; CI does the same (.ci/run).
test-all: lint unit fuzz installed kernels

one-kernel: $(READY) packages
	@$(BIN)/pytest --numprocesses 2 --dist loadgroup tests/lab/test_ls.py -k "$(KERNEL)"

# One of arm64, and whichever are cached, are among "kernels" as well.
foreign: PACKAGES += tests/lab/debian-packages-foreign.txt
foreign: export VMAP_FOREIGN := all
foreign: $(READY) packages
	@$(BIN)/pytest --numprocesses 2 --dist loadgroup --junitxml $(RECORDS)/foreign.xml \
	    tests/lab/test_foreign.py tests/lab/test_live_foreign.py tests/lab/test_sh.py

# Each is built, or fetched, when it is first asked for, which takes minutes. Other tests
# hold for them as well, but for what they know of Debian's kernels.
UNUSUAL_SHOW := ls addr blocks fsck check verify direct helpers btf few_names machines
vendors: export VMAP_KERNELS := 5.10-rhel8 6.1-v6.5 6.1-gki66 6.1-rhel9
configured: export VMAP_KERNELS := 6.1-up 6.1-kasan 6.1-lto 6.1-names 6.1-nameless 6.12-rt
vendors configured: $(READY) packages
	@$(BIN)/pytest --numprocesses 2 --dist loadgroup --junitxml $(RECORDS)/$@.xml \
	    -k "$(subst $() , or ,$(VMAP_KERNELS))" $(UNUSUAL_SHOW:%=tests/lab/test_%.py)

# pytest -m support --junitxml $(RECORDS)/support.xml runs no more than it takes.
support: $(READY)
	@$(LAB) support $(RECORDS)/*.xml

lint: $(READY)
	@$(BIN)/black --quiet --check --diff $(SOURCES)
	@$(BIN)/isort --quiet --check --diff $(SOURCES)
	@$(BIN)/flake8 $(SOURCES)
	@$(BIN)/vermin --quiet --no-tips --violations --target=3.8- $(ON_OLDEST)
	@$(BIN)/mypy

unit: $(READY)
	@$(BIN)/pytest --numprocesses 2 tests/unit tests/samples

installed: PACKAGES := tests/debian-packages.txt
installed: $(READY) packages
	@$(BIN)/python -m tests.installed $(PYTHONS)

# In two processes: an emulated kernel keeps hardly more than one processor busy.
kernels: $(READY) packages
	@$(BIN)/pytest --numprocesses 2 --dist loadgroup --junitxml $(RECORDS)/test.xml tests/lab

# Each input is a process of its own: with memory in large pages, and all of it in reach of
# that, one is made in 3 ms rather than 20.
fuzz: export PYTHONMALLOC = malloc
fuzz: export GLIBC_TUNABLES = glibc.malloc.hugetlb=1
# Without SEED, of another one each time; it is printed.
fuzz: $(READY)
	@$(BIN)/python -m tests.fuzz $(if $(SECONDS),--seconds $(SECONDS)) \
	    $(if $(SEED),--seed $(SEED)) $(if $(REPLAY),--replay $(REPLAY)) $(FUZZ)

samples: $(READY) packages
	@$(LAB) samples

pictures: $(READY) packages
	@$(LAB) pictures

# Everything takes an hour and 8 GiB; BENCH='--areas 200000' is a part of it.
bench: PACKAGES += tests/bench/debian-packages.txt
bench: $(READY) packages
	@$(BIN)/python -m tests.bench $(BENCH)

bundle: $(READY)
	$(BIN)/python contrib/packaging/bundle.py build/vmap.pyz

deb: $(READY)
	$(BIN)/python contrib/packaging/debian.py build

dist: $(READY)
	$(BIN)/python -m build --outdir build/dist

lab: $(READY) packages
	@$(LAB) run --kernel $(KERNEL) -- sh -c "$$CMD"

shell: $(READY) packages
	@$(LAB) shell --kernel $(KERNEL)

format: $(READY)
	@$(BIN)/black --quiet $(SOURCES)
	@$(BIN)/isort --quiet $(SOURCES)

clean:
	rm -rf .venv build *.egg-info .hypothesis .mypy_cache .pytest_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

$(READY): setup.cfg pyproject.toml
	@echo 'Setting up .venv …'
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install -qq --editable '.[lint,packaging,test]'
	@touch $@

# Debian packages that the lab needs and this machine lacks: root installs them,
# anybody else is told how to. What can't run without them says so itself.
packages:
	@missing=; \
	for package in $$(sed 's/#.*//' $(PACKAGES)); do \
	    dpkg -s "$$package" 2>/dev/null | grep -q '^Status: .* ok installed' || \
	        missing="$$missing $$package"; \
	done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" -ne 0 ]; then \
	    echo "Missing; install as root: apt-get install$$missing" >&2; exit 0; \
	fi; \
	echo "Installing$$missing …"; \
	export DEBIAN_FRONTEND=noninteractive; \
	apt-get -qq update </dev/null && \
	apt-get -qq install --no-install-recommends $$missing </dev/null >/dev/null
