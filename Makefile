# Two commands are all a newcomer needs: `make demo` and `make test`. Both set up what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
MINUTES ?= 10
CELLS ?=
# More than two cores have to do: most of the time the tests wait for a network, or its absence.
WORKERS ?= 6
PYTEST_OPTIONS ?=

RELEASE := .build/release
RELEASE_STAMP := $(RELEASE)/.installed

.PHONY: help setup system system-demo demo test test-long test-parts test-brokers test-matrix lint bench soak clean
.PHONY: hooks documents brokers conformance pictures lock release release-rehearsal

help:
	@echo "make demo       the whole system on this machine: CA, broker, board, Pi, intruders"
	@echo "                BROKER=mosquitto, amqtt, hivemq or rabbitmq: with that one"
	@echo "make test       every test (under 10 minutes)"
	@echo "make test-long  the slow sweeps too"
	@echo "make test-brokers  what takes a HiveMQ or a RabbitMQ"
	@echo "make test-parts the unit, contract and security suites on 32 bits and Mosquitto 2.0.21"
	@echo "make test-matrix  ... over versions of everything, CELLS=debian13 for one: docs/matrix.md"
	@echo "make setup      the virtual environment alone; system: the Debian packages that tests need"
	@echo "make lint       ruff, its format, mypy --strict, and vermin: what CPython 3.10 has"
	@echo "make bench      the figures of the README, measured here"
	@echo "make soak       faults at random, for MINUTES=10"
	@echo "make hooks      the quick checks before each commit"
	@echo "make documents  write anew what is made from the source: docs/errors.md, package.json, ..."
	@echo "make brokers      ... docs/brokers.md: what works with which broker, from which interpreter"
	@echo "make conformance  ... docs/conformance.md: both brokers against MQTT 3.1.1, clause by clause"
	@echo "make lock       write the versions and hashes of all packages anew; UPGRADE=1 for newer ones"
	@echo "make release    wheel, sdist, SBOM and checksums, checked; release-rehearsal on any commit"
	@echo "make clean      remove what make made"

setup: $(STAMP)

$(STAMP): setup.cfg pyproject.toml requirements.lock
	@$(PYTHON) tests/support/setup_environment.py $(VENV)
	@touch $@

system-demo:
	@sh tests/support/system_packages.sh --demo

system:
	@sh tests/support/system_packages.sh

demo: setup system-demo
ifeq ($(BROKER),hivemq)
	@sh tests/support/system_packages.sh --brokers
	@cd tests && HIVEMQ_HOME="$${HIVEMQ_HOME:-$$(../$(BIN)/python -m support.brokers.hivemq)}" \
		../$(BIN)/python ../tools/demo.py --engine hivemq
else ifeq ($(BROKER),rabbitmq)
	@sh tests/support/system_packages.sh --brokers
	@$(BIN)/python tools/demo.py --engine rabbitmq
else
	@$(BIN)/python tools/demo.py $(if $(BROKER),--engine $(BROKER))
endif

test: setup system
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -m "not long and not brokers" $(PYTEST_OPTIONS)

# What takes a HiveMQ (100 MB, from Maven Central) and Debian's RabbitMQ, with their Java and Erlang.
test-brokers: setup
	@sh tests/support/system_packages.sh --brokers
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -m "brokers and not long" $(PYTEST_OPTIONS)

# Randomised tests take four times as many seeds there, too.
test-long: export SECUREMQTT_SWEEP ?= 4
test-long: setup
	@sh tests/support/system_packages.sh --brokers
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

test-parts: setup system
	@$(BIN)/python tests/matrix/run.py --again --no-table --workers $(WORKERS) parts

test-matrix: setup system
	@$(BIN)/python tests/matrix/run.py --workers $(WORKERS) $(CELLS)

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@$(BIN)/vermin --target=3.10- --violations --quiet lib tools tests firmware

bench: setup system
	@$(BIN)/python tests/bench/run.py

soak: setup system
	@$(BIN)/python tests/faults/soak.py --minutes $(MINUTES)

hooks: setup
	@$(BIN)/pre-commit install

documents: setup
	@$(BIN)/python tests/support/documents/errors_page.py
	@$(BIN)/python tests/support/documents/board_packages.py
	@$(BIN)/python tests/support/documents/options_page.py

conformance: setup system
	@$(BIN)/python tests/conformance/page.py

brokers: setup system
	@sh tests/support/system_packages.sh --brokers
	@$(BIN)/python tests/brokers/page.py

pictures: setup
	@PYTHONPATH=tests $(BIN)/python tests/support/documents/pictures.py

$(RELEASE_STAMP): tests/support/release/tools.lock
	@$(PYTHON) tests/support/setup_environment.py $(RELEASE) $<
	@touch $@

lock: $(RELEASE_STAMP)
	@$(PYTHON) tests/support/release/lock.py "$(CURDIR)/$(RELEASE)/bin/uv" "$(UPGRADE)"

release: $(RELEASE_STAMP)
	@PYTHONPATH=tests $(RELEASE)/bin/python -m support.release.make_release

release-rehearsal: $(RELEASE_STAMP)
	@PYTHONPATH=tests $(RELEASE)/bin/python -m support.release.make_release --rehearsal

clean:
	rm -rf $(VENV) .build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis lib/*.egg-info *.egg-info
