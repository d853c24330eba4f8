# make run: set up and answer a real request.  make test: set up and run every test.
PYTHON ?= $(shell command -v python3.13 || command -v python3.12 || command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test check clean

run: $(VENV)/.run
	$(BIN)/anyloom ask "Read this note aloud, then write down what you hear" --attach examples/note.png --out out

test: $(VENV)/.test
	$(BIN)/python -m pytest

check: $(VENV)/.test
	$(BIN)/ruff check .
	@mkdir -p .mypy && ln -sfn .. .mypy/anyloom
	$(BIN)/python -m mypy

clean:
	rm -rf $(VENV) out build anyloom.egg-info

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("anyloom needs Python 3.11 or newer, and $(PYTHON) is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar on -q -c constraints.txt -e .
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[dev]'
	@touch $@
