# Two commands do everything on a fresh machine: `make demo` and `make test`.
# They make .venv once, with the versions of constraints.txt, and build the operators into it.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: demo test lint bench docs clean help

help:
	@echo "make demo    set up, make instance masks of made-up scenes from image tags alone, show a report"
	@echo "make test    set up, run the tests"
	@echo "make lint    set up, run ruff"
	@echo "make bench   set up, run the benchmarks"
	@echo "make docs    set up, build the documentation into build/site"
	@echo "make clean   remove .venv and everything that was built"

demo: $(READY)
	$(BIN)/python -m wsis demo

test: $(READY)
	$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --diff . || true

bench: $(READY)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[bench]' --no-build-isolation
	$(BIN)/python -m pytest benchmarks

# The operators are rebuilt when their sources change; a rebuild without changes takes about two seconds.
SOURCES := $(shell find csrc -type f 2>/dev/null) CMakeLists.txt setup.py pyproject.toml constraints.txt

$(READY): $(SOURCES)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "wsis needs Python 3.10 or newer, got " + sys.version + "; run: make PYTHON=python3.12 demo")'
	@command -v $${CXX:-c++} >/dev/null || { echo "wsis needs a C++20 compiler; on Debian or Ubuntu run: apt-get install g++" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt torch torchvision setuptools wheel pybind11 ninja cmake
	$(BIN)/python -m pip install -q -c constraints.txt --no-build-isolation -e '.[test]'
	@touch $(READY)

docs: $(READY)
	$(BIN)/python -m pip install -q -c constraints.txt mkdocs-material
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) build dist *.egg-info wsis/*.so
