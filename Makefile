# make run     the demonstration on port 8000
# make test    every test; make test TESTS=tests/http: some
# make check   formatting, lint, types
# make bench   forkserve beside other servers
# make soak    whether anything is lost, in full counts

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP     = $(BIN)/python -m pip --quiet --disable-pip-version-check

.PHONY: run test check bench soak clean

run: $(VENV)/.run
	$(BIN)/forkserve --workers 4 --bind :8000 forkserve.demo:application

# Those of the command wait for processes most of the time: two at once take half as long.
test: $(VENV)/.test
ifdef TESTS
	$(BIN)/python -m pytest $(TESTS)
else
	$(BIN)/python -m pytest --ignore=tests/command
	$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile tests/command
endif

check: $(VENV)/.check
	$(BIN)/ruff format --check forkserve tests benchmarks
	$(BIN)/ruff check forkserve tests benchmarks
	$(BIN)/mypy

bench: $(VENV)/.run
	$(BIN)/python -m benchmarks $(BENCH)

soak: $(VENV)/.run
	$(BIN)/python -m benchmarks.soak $(SOAK)

# What is installed, in a virtual environment of its own. Made anew when pyproject.toml changes.
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml $(VENV)/bin/python
	$(PIP) install --editable .
	@touch $@

$(VENV)/.test $(VENV)/.check: $(VENV)/.%: pyproject.toml $(VENV)/bin/python
	$(PIP) install --editable .[$*]
	@touch $@ $(VENV)/.run

clean:
	rm -rf $(VENV) .bench build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
