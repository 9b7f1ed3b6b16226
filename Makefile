# Two commands: `make demo` runs the main job, `make test` every check. Both set up .venv first.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test checks suite test-lowest test-newest soak setup wheel clean

demo: setup
	$(BIN)/python -m pipelines.demo --out out/demo

# The tests run against the installed wheel, from a folder without the sources; a thread for each of the processes that share the cores, and one
# process more than there are cores, as tests wait for servers, clocks and other processes.
PROCESSES = $(shell $(PYTHON) -c 'import os; print(1 + len(getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count()))(0)))')
test:
	@$(MAKE) --no-print-directory --jobs=2 checks suite

checks: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

suite: wheel
	rm -rf build/check && mkdir -p build/check
	cp -r tests pipelines pyproject.toml build/check/
	cd build/check && OMP_NUM_THREADS=1 CROSS4D_INSTALLED=$(CURDIR)/build/installed PYTHONPATH=$(CURDIR)/build/installed $(CURDIR)/$(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder

# The fast tests with the lowest versions that pyproject.toml declares, and with the newest; torch stays as pinned, no resolver chooses it.
FAST := test_docs.py test_record.py $(addprefix cross4d_cache/,test_cli.py report/test_picture.py rendering/test_visibility.py teachers datasets/test_hoi4d.py \
  store/test_golden.py store/test_storage.py) $(addprefix cross4d_train/,test_checkpoint.py test_run.py)
test-lowest: RESOLUTION := lowest-direct
test-newest: RESOLUTION := highest
test-lowest test-newest: test-%:
	$(PYTHON) -m venv --clear .venv-$*
	.venv-$*/bin/pip install --quiet --progress-bar off uv $(TORCH)
	echo torch > .venv-$*/torch
	.venv-$*/bin/uv pip install --python .venv-$*/bin/python --upgrade --resolution $(RESOLUTION) --excludes .venv-$*/torch -e '.[dev,mesh]'
	OMP_NUM_THREADS=1 .venv-$*/bin/python -m pytest $(addprefix tests/,$(FAST))

# Thousands of damaged files for every dataset reader; hundreds of kills, and damage of stores, manifests and zips.
soak: setup
	$(BIN)/python -m tests.cross4d_cache.datasets.soak --count 3000
	$(BIN)/python -m tests.soak

wheel: setup
	rm -rf build/lib build/wheel build/installed
	$(BIN)/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir build/wheel .
	$(BIN)/pip install --quiet --no-deps --target build/installed build/wheel/*.whl

setup: .venv/.ready

# PyPI's torch brings gigabytes of CUDA; without an NVIDIA card: make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
TORCH = $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch==$$(sed -n 's/^torch==//p' constraints.txt)

.venv/.ready: constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; found $$($(PYTHON) --version)"; exit 1; }
	@$(MAKE) --no-print-directory venv-package
	[ -x $(BIN)/pip ] || $(PYTHON) -m venv --clear .venv
	$(BIN)/pip install --quiet --progress-bar off -c constraints.txt setuptools $(TORCH)
	$(BIN)/pip install --quiet --progress-bar off -c constraints.txt --no-build-isolation -e '.[dev]'
	@$(MAKE) --no-print-directory mesh
	touch $@

# Debian keeps the venv module apart from Python.
.PHONY: venv-package
venv-package:
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || $(call apt-install,python3-venv) || { echo "then make again"; exit 1; }

# Open3D has no wheel for every Python and C library, and its wheel needs libraries that a desktop has. All else works without it.
OPEN3D_LIBRARIES := libusb-1.0-0 libgl1 libegl1 libx11-6 libgomp1
MESH := install --quiet --progress-bar off --disable-pip-version-check --only-binary open3d -c constraints.txt --no-build-isolation -e '.[mesh]'

.PHONY: mesh
mesh:
	@if ! error="$$($(BIN)/pip $(MESH) 2>&1)"; then echo "without Open3D, so no ray casting ($$(tail -n 1 <<< "$$error"))"; \
	elif ! $(BIN)/python -c 'import open3d' >/dev/null 2>&1; then \
	  $(call apt-install,$(OPEN3D_LIBRARIES)) || echo "until then Open3D casts no rays; all else works"; fi

# Installs packages of the system, or says the line that does.
define apt-install
{ if [ "$$(id -u)" = 0 ]; then sudo=""; elif sudo -n true 2>/dev/null; then sudo="sudo"; \
  else echo "please run this line:  sudo apt-get install -y $(1)"; false; fi \
  && $$sudo apt-get update -q && $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q $(1); }
endef

clean:
	rm -rf build out .venv .venv-lowest .venv-newest
