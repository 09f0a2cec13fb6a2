# One-word commands. The first of them makes .venv and installs into it; nothing else is touched.
.PHONY: demo test lint format docs results bench bench-gpu chaos load pins clean

SHELL  := /bin/sh
PYTHON  = $(firstword $(foreach each,python3 python3.13 python3.12 python3.11,$(shell \
            $(each) -c 'import sys, venv; sys.version_info >= (3, 11) or sys.exit(1); print("$(each)")' 2>/dev/null)))
IN     := .venv/bin/python

demo: .venv/.installed
	.venv/bin/steep demo

# A file of tests runs in one process; each process computes on one core, so that they do not wait for one another.
test: .venv/.installed-dev
	OMP_NUM_THREADS=1 $(IN) -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

lint: .venv/.installed-dev
	$(IN) -m ruff check .
	$(IN) -m ruff format --check .
	$(IN) -m mypy
	.venv/bin/lint-imports

format: .venv/.installed-dev
	$(IN) -m ruff format .
	$(IN) -m ruff check --fix .

docs: .venv/.installed-dev
	$(IN) scripts/reference.py
	$(IN) -m mkdocs build --strict

# The material that these two measure on lies in ../shared/data; they say so when it is not there.
results: .venv/.installed-dev
	$(IN) benchmarks/results.py

bench: .venv/.installed-dev
	$(IN) benchmarks/bench.py

bench-gpu: .venv/.installed-dev
	$(IN) benchmarks/gpu.py

# Two hundred faults at random moments, on SQLite and on PostgreSQL where it is installed; a tenth of it is in make test.
chaos: .venv/.installed-dev
	$(IN) -m benchmarks.chaos

# One server with 10,000 queued jobs and 500 workers that report; takes a minute and a half.
load: .venv/.installed-dev
	$(IN) -m benchmarks.load

pins: .venv/.installed-dev
	$(IN) scripts/pin.py > .venv/constraints.new && mv .venv/constraints.new constraints.txt

clean:
	rm -rf .venv site dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Steep needs Python 3.11 or newer, with its venv module, as python3." >&2; exit 2; }
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 2; }

.venv/.installed: Makefile pyproject.toml constraints.txt scripts/install.sh | .venv/bin/python
	sh scripts/install.sh '.[server]'
	@touch $@

.venv/.installed-dev: pyproject.toml constraints.txt scripts/install.sh | .venv/bin/python
	sh scripts/install.sh '.[dev]'
	@touch .venv/.installed $@
