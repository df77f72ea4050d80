# The daily tasks; `make help` lists them. PY=3.12 chooses the Python (default: the newest here).
.DEFAULT_GOAL := help
PY ?= $(shell tools/pythons | tail -n 1 | cut -d' ' -f1)
VENV = .venv/$(PY)
PYTHON = $(VENV)/bin/python
JOBS ?= $(shell nproc)
# Tests to run and further arguments for pytest: make test PY=3.13 T=tests/test_x.py ARGS='-k y'
T ?=
ARGS ?=
MINUTES ?= 5
SECONDS ?= 60
QUICK ?=

.PHONY: help setup build debug sanitize notick test libs ctest crash fuzz valgrind cpython models stress lint format bench docs demo clean

help: ## this list
	@echo "make <task> [PY=3.10|...|3.15]"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

setup: ## the environment .venv/$(PY) with what building and testing need
	@tools/venv $(PY)

build: setup ## fastmp._core in place, only what changed
	@$(PYTHON) setup.py -q build_ext --inplace --parallel $(JOBS)

debug: setup ## the same with -O0 -g and consistency checks
	@FASTMP_DEBUG=1 $(PYTHON) setup.py -q build_ext --inplace --parallel $(JOBS)

test: ## everything, on each Python found; PY=, T=tests/..., ARGS=... narrow it
	@tools/test $(if $(filter command line environment,$(origin PY)),$(PY)) -- $(T) $(ARGS)

libs: build ## large libraries on fastmp: scikit-learn, Django; with TORCH=1 PyTorch, TORCH=torch==2.13.0 that release
	@TORCH=$(TORCH) tools/libs $(PY) $(T) $(ARGS)

ctest: ## C tests of base-channel without Python: plain, without ticks, under ASan and UBSan, TSan
	@$(MAKE) --no-print-directory -j$(JOBS) -f tests/c/Makefile VARIANT=plain
	@$(MAKE) --no-print-directory -j$(JOBS) -f tests/c/Makefile VARIANT=notick
	@$(MAKE) --no-print-directory -j$(JOBS) -f tests/c/Makefile VARIANT=asan
	@$(MAKE) --no-print-directory -j$(JOBS) -f tests/c/Makefile VARIANT=tsan

fuzz: ## hostile bytes: each target of tests/fuzz for SECONDS=60, by libFuzzer (needs clang); T=ring
	@tests/fuzz/run $(SECONDS) $(T)

crash: ## steps through the protocols: a kill and a pause at every instruction; QUICK=1 a few of them
	@python3 -m tests.crash $(if $(QUICK),--quick) $(ARGS)

sanitize: setup ## a core with ASan and UBSan, apart from the tree, and most tests on it
	@tools/variant sanitize $(PYTHON) $(T) $(ARGS)

valgrind: build ## a small program with a little of everything, under valgrind
	@tools/valgrind $(PYTHON)

notick: setup ## the same for a core whose sleeps have no ticks: no lost wake-up can hide
	@tools/variant notick $(PYTHON) $(T) $(ARGS)

cpython: build ## CPython's own tests of multiprocessing, on the stdlib and on fastmp
	@$(PYTHON) -m tests.cpython --build --python $(PY) $(ARGS)

models: ## the Spin models of the protocols, and that their mutants fail (needs spin)
	@python3 -m tests.models

stress: build ## storms of kills through the public API, for MINUTES=5; ARGS='--seed 7 ...'
	@$(PYTHON) -m tests.stress --minutes $(MINUTES) $(ARGS)

lint: build ## ruff, mypy, pyright, clang-format, cppcheck
	@tools/lint

format: ## ruff and clang-format rewrite the sources
	@tools/lint --fix

bench: build ## fastmp against the standard library; PEERS=all and against everybody else; ARGS='--goals'
	@PEERS=$(PEERS) TORCH=$(TORCH) tools/bench $(PY) $(ARGS)

docs: build ## the documents: checks the links and file names in docs/ and README
	@$(PYTHON) -m pytest -q tests/test_docs.py

demo: ## installs fastmp into .venv/demo and runs examples/wordcount.py
	@tools/demo

clean: ## what the builds made; the environments under .venv stay
	rm -rf build dist *.egg-info fastmp/*.so .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
