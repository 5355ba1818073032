# The project's commands. `make help` lists them; `make demo` and `make test` are all that a fresh machine needs.

# What to install into, and what torch. See "Install" in the README.
VENV ?= .venv
TORCH ?= torch==2.13.0
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c '$(IS_RECENT)' 2>/dev/null && echo $$python && break; done)
RUN ?= runs/demo
PRESET ?= tiny

IS_RECENT := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
BIN = $(VENV)/bin
# Its name holds the choice of torch, so that another choice installs anew.
STAMP = $(VENV)/.installed-$(shell echo '$(TORCH)' | cksum | cut -d' ' -f1)
# One thread per process: the tests run side by side, and sums of floats then have one order on every machine.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow lint types format clean

help:  ## list the targets and the variables
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 18
	@echo 'Variables: VENV=$(VENV)  TORCH="$(TORCH)" (or TORCH=existing)  PYTHON=python3.11  RUN=$(RUN)  PRESET=$(PRESET)'

demo: $(STAMP)  ## examine and train the crystal app on the embedded data, evaluate it, predict a structure
	@if [ -f '$(RUN)/settings.json' ]; then rm -rf '$(RUN)'; fi  # an earlier demo; anything else is left alone
	$(BIN)/isometry doctor crystal --preset $(PRESET)
	$(BIN)/isometry train crystal --preset $(PRESET) --out '$(RUN)'
	$(BIN)/isometry evaluate crystal '$(RUN)'
	$(BIN)/isometry predict crystal '$(RUN)' examples/silicon.extxyz --out '$(RUN)/predictions.csv'
	@echo
	@echo 'Model:       $(RUN)/checkpoints'
	@echo 'Report:      $(RUN)/report.html (open it in a browser)'
	@echo 'Predictions: $(RUN)/predictions.csv'
	@echo 'Next:        $(BIN)/isometry predict crystal $(RUN) YOUR_FILE.cif'

test: lint types  ## check format, style and types, and run the fast tests
	$(PYTEST) -n 2 -m "not slow"

test-slow: $(STAMP)  ## run the tests that train for minutes or restart many times
	$(PYTEST) -n 2 -m slow

lint: $(STAMP)  ## check format and style
	$(BIN)/python -m ruff format --check
	$(BIN)/python -m ruff check

types: $(STAMP)  ## check types
	$(BIN)/python -m pyright --pythonpath '$(BIN)/python'

format: $(STAMP)  ## bring the sources into form
	$(BIN)/python -m ruff format
	$(BIN)/python -m ruff check --fix

clean:  ## remove what the build and the linters left; the environment and the runs stay
	rm -rf build dist .pytest_cache .ruff_cache .hypothesis
	find core data apps tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml
	@'$(BIN)/python' -m pip --version >/dev/null 2>&1 || { \
		'$(PYTHON)' -c '$(IS_RECENT)' >/dev/null 2>&1 || { \
			echo 'make: Python 3.11 or newer with venv and pip is needed, found: $(or $(PYTHON),none).' \
				'Install it (Debian: apt install python3-venv) or name it: PYTHON=/path/to/python3.11' >&2; exit 1; }; \
		echo 'Making the environment $(VENV); the first time takes some minutes.'; \
		'$(PYTHON)' -m venv '$(VENV)'; }
ifeq ($(TORCH),existing)
	@# The packages of the Python that has torch become visible in the environment, behind its own.
	@'$(BIN)/python' -c 'import torch' 2>/dev/null || \
		'$(PYTHON)' -c 'import pathlib, torch; print(pathlib.Path(torch.__file__).parents[1])' \
		> "$$('$(BIN)/python' -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/existing_torch.pth"
	'$(BIN)/python' -m pip install -e '.[dev]' \
		"torch==$$('$(BIN)/python' -c 'import torch; print(torch.__version__)')"
else
	'$(BIN)/python' -m pip install $(TORCH)
	'$(BIN)/python' -m pip install -e '.[dev]'
endif
	@rm -f '$(VENV)'/.installed-*; touch '$@'
