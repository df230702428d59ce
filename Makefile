# `make demo` and `make test` do all their set-up themselves, in .venv.
PYTHON ?= python3
BIN := .venv/bin
# The networks are tiny and the machines shared: one thread a process is the fastest.
export OMP_NUM_THREADS := 1

.PHONY: install demo test lint bench clean

install: .venv/installed

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

demo: install
	$(BIN)/rlsched demo --out runs/demo --workers 2

# Two processes, each with whole files: fixtures of a file are made once. In the order of tests/conftest.py.
test: install
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --doctest-modules rlsched

# With BENCH='--rounds 1' everything is timed once: faster, and noisier.
bench: install
	$(BIN)/rlsched bench $(BENCH) --json runs/bench.json
	$(BIN)/python -m rlsched.benchmarks.first_step

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
