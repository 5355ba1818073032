# The project's commands. `make help` lists them; `make demo` and `make test` are all that a fresh machine needs.

# What to install into, and what torch. See "Install" in the README.
VENV ?= .venv
TORCH ?= torch==2.13.0
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c '$(IS_RECENT)' 2>/dev/null && echo $$python && break; done)
RUN ?= runs/demo
PRESET ?= tiny
APPS ?= crystal genome protein signaling

# What each app of the demo predicts, and into which file.
example-crystal = examples/silicon.extxyz
prediction-crystal = predictions.csv
example-genome = examples/locus.fa examples/locus.bed
prediction-genome = windows.csv
example-protein = examples/proteins.fasta
prediction-protein = proteins.pdf
example-signaling = examples/cells.csv
prediction-signaling = states.csv

define demonstrate
$(BIN)/isometry doctor $(1) --preset $(PRESET)
	$(BIN)/isometry train $(1) --preset $(PRESET) --out '$(RUN)/$(1)'
	$(BIN)/isometry evaluate $(1) '$(RUN)/$(1)'
	$(BIN)/isometry predict $(1) '$(RUN)/$(1)' $(example-$(1)) --out '$(RUN)/$(1)/$(prediction-$(1))'

endef

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
	@echo 'Variables: VENV=$(VENV)  TORCH="$(TORCH)" (or TORCH=existing)  PYTHON=python3.11  RUN=$(RUN)  PRESET=$(PRESET)  APPS="$(APPS)"'

demo: $(STAMP)  ## examine and train each app on its embedded data, evaluate it, predict an example
	@for app in $(APPS); do \
		if [ -f "$(RUN)/$$app/settings.json" ]; then rm -rf "$(RUN)/$$app"; fi; \
	done  # an earlier demo; anything else is left alone
	$(foreach app,$(APPS),$(call demonstrate,$(app)))
	@echo
	@echo 'Models:      $(RUN)/APP/checkpoints'
	@echo 'Reports:     $(RUN)/APP/report.html (open it in a browser)'
	@echo 'Predictions: $(foreach app,$(APPS),$(RUN)/$(app)/$(prediction-$(app)))'
	@echo 'Next:        $(BIN)/isometry predict $(firstword $(APPS)) $(RUN)/$(firstword $(APPS)) YOUR_FILE'

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
