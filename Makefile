# Two commands are all a newcomer needs: `make demo` and `make test`. Both set up what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
MINUTES ?= 10

.PHONY: help setup system system-demo demo test test-long lint bench soak clean

help:
	@echo "make demo       the whole system on this machine: CA, broker, board, Pi, intruders"
	@echo "make test       every test (under 10 minutes)"
	@echo "make test-long  the slow sweeps too"
	@echo "make lint       ruff and mypy --strict"
	@echo "make bench      the figures of the README, measured here"
	@echo "make soak       faults at random, for MINUTES=10"
	@echo "make clean      remove what make made"

setup: $(STAMP)

$(STAMP): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) tests/support/setup_environment.py $(VENV)
	@touch $@

system-demo:
	@sh tests/support/system_packages.sh --demo

system:
	@sh tests/support/system_packages.sh

demo: setup system-demo
	@$(BIN)/python tools/demo.py

test: setup system
	@$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not long"

test-long: setup system
	@$(BIN)/python -m pytest -n 2 --dist loadgroup

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/mypy

bench: setup system
	@$(BIN)/python tests/bench/run.py

soak: setup system
	@$(BIN)/python tests/faults/soak.py --minutes $(MINUTES)

clean:
	rm -rf $(VENV) .build .pytest_cache .mypy_cache .ruff_cache .hypothesis lib/*.egg-info *.egg-info
