# make run: set up and answer a real request.  make test: set up and run every test.
# make faults: kills and freezes a cluster of its own in the middle of requests, for hours; docs/reliability.md.
# make figures: measures overhead, throughput and load of a cluster and writes them into docs/scale.md; an idle machine.
# make system: Debian packages without which some tests are skipped (a browser, a Redis server).
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin

WORKERS := 2  # files of tests that run side by side; most tests keep one processor busy, and wait for the rest

PACKAGES := chromium redis-server

.PHONY: run test check system faults figures clean

run: $(VENV)/.run
	$(BIN)/anyloom ask "Read this note aloud, then write down what you hear" --attach examples/note.png --out out

test: $(VENV)/.test
	$(BIN)/python -m pytest -n $(WORKERS)

check: $(VENV)/.test
	$(BIN)/ruff check .
	@mkdir -p .mypy && ln -sfn .. .mypy/anyloom
	$(BIN)/python -m mypy

system:
	@if command -v chromium redis-server >/dev/null; then :; \
	elif command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(PACKAGES) >/dev/null; \
	else echo "Install $(PACKAGES) to run every test."; fi

faults: $(VENV)/.test
	$(BIN)/python benchmarks/faults.py --rounds 20 --log docs/reliability.md

figures: $(VENV)/.test
	$(BIN)/python benchmarks/scale.py report --docs docs/scale.md

clean:
	rm -rf $(VENV) out build anyloom.egg-info

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "anyloom needs Python 3.11 or newer; install it, or say make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar on -q -c constraints.txt -e .
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --disable-pip-version-check --no-compile -q -c constraints.txt -e '.[dev]'
	@touch $@
