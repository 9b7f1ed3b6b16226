# Two commands: `make demo` runs the main job, `make test` every check. Both set up .venv first.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test setup wheel clean

demo: setup
	$(BIN)/python -m pipelines.demo --out out/demo

# The tests run against the installed wheel, from a folder without the sources.
test: setup wheel
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	rm -rf build/check && mkdir -p build/check
	cp -r tests pipelines pyproject.toml build/check/
	cd build/check && PYTHONPATH=../installed ../../$(BIN)/python -m pytest

wheel: setup
	rm -rf build/lib build/wheel build/installed
	$(BIN)/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir build/wheel .
	$(BIN)/pip install --quiet --no-deps --target build/installed build/wheel/*.whl

setup: .venv/.ready

# The plain name of torch would fetch gigabytes of CUDA packages on machines without CUDA, hence the pinned one first.
.venv/.ready: constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; found $$($(PYTHON) --version)"; exit 1; }
	@$(MAKE) --no-print-directory system-packages
	[ -x $(BIN)/pip ] || $(PYTHON) -m venv --clear .venv
	$(BIN)/pip install --quiet --progress-bar off -c constraints.txt setuptools "torch==$$(sed -n 's/^torch==//p' constraints.txt)"
	$(BIN)/pip install --quiet --progress-bar off -c constraints.txt --no-build-isolation -e '.[dev]'
	touch $@

# Open3D's wheel needs libusb, and Debian keeps the venv module apart from Python.
.PHONY: system-packages
system-packages:
	@needed=""; \
	/sbin/ldconfig -p | grep -q 'libusb-1\.0\.so' || needed="$$needed libusb-1.0-0"; \
	$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || needed="$$needed python3-venv"; \
	[ -z "$$needed" ] && exit 0; \
	if [ "$$(id -u)" = 0 ]; then sudo=""; elif sudo -n true 2>/dev/null; then sudo="sudo"; \
	else echo "please run this line, then make again:  sudo apt-get install -y$$needed"; exit 1; fi; \
	$$sudo apt-get update -q && DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -y -q $$needed

clean:
	rm -rf build out .venv
