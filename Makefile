# `make demo` and `make test` are all you need to start; both set up the environment first. `make help` lists the rest.
PYTHON ?= python3
NEWEST ?= python3.14
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready
UNITS := $(addprefix tests/,functional kernels model losses metrics figures files artefact runs test_imports.py networks/test_self_check.py)

.PHONY: help demo lm quick test reliability lanes lint tensorboard reproduce seeds compare bench clean
.DEFAULT_GOAL := help

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; name it with make PYTHON=...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(READY)  ## train a toy model of superposition, take it apart, score and draw the result
	$(RUN) -m spd_lightning fit --config tms.yaml

lm: $(READY)  ## train a small language model on Python's standard library and take it apart; long on a CPU, goes on where it was stopped
	$(RUN) -m spd_lightning fit --config lm/python.yaml --resume auto

quick: $(READY) lint  ## lint, types and the unit tests, for working
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist loadfile $(UNITS)

test: $(READY) lint  ## lint, types and all tests but the long ones
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist loadfile

reliability: $(READY)  ## the long tests: what docs/reliability.md promises, every network through every command
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist loadfile -m reliability

lanes: lane-lowest lane-newest  ## the unit tests with the lowest allowed versions, and with the newest Python (NEWEST=python3.14)

lane-%:
	$(if $(filter newest,$*),$(NEWEST),$(PYTHON)) -m venv --clear .venv-$*
	.venv-$*/bin/python -m pip install --quiet --disable-pip-version-check $(if $(filter lowest,$*),-c constraints-lowest.txt) -e '.[dev]'
	.venv-$*/bin/python -m pytest $(UNITS) tests/methods

lint: $(READY)  ## ruff and strict types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

tensorboard: $(READY)  ## look at the runs
	$(RUN) -m tensorboard.main --logdir runs

reproduce: $(READY)  ## run the paper's systems over seeds, write the tables (SYSTEM="tms_5-2 ..." SEEDS="0 1" JOBS=2 PAPER=1 KEEP=1)
	$(RUN) -m benchmarks.reproduce $(if $(SYSTEM),--systems $(SYSTEM)) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(JOBS),--jobs $(JOBS)) $(if $(PAPER),--paper) $(if $(KEEP),--keep)

seeds: $(READY)  ## how often recipes recover, over seeds, sizes and settings (PLAN=hundred SEEDS=0-9 JOBS=2 WRITE=1 KEEP=1, DRAW=12 SEED=1)
	$(RUN) -m benchmarks.seeds $(or $(PLAN),$(if $(DRAW),,hundred)) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(DRAW),--draw $(DRAW)) $(if $(SEED),--seed $(SEED)) $(if $(JOBS),--jobs $(JOBS)) $(if $(WRITE),--write) $(if $(KEEP),--keep)

compare: $(READY)  ## run SPD and the older method APD on the same systems, write docs/comparison.md (JOBS=2 KEEP=1)
	$(RUN) -m benchmarks.compare $(if $(JOBS),--jobs $(JOBS)) $(if $(KEEP),--keep)

bench: $(READY)  ## measure step times, memory and time to recovery, and write docs/benchmarks
	$(RUN) -m benchmarks

clean:  ## remove the environment and caches, keep runs
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
