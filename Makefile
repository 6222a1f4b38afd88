# Everything that the README promises, as commands. `make help` lists them.
SHELL  := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip install --disable-pip-version-check --require-hashes
RUN    := source $(BIN)/activate &&
export TQDM_MININTERVAL := 0.5
export OMP_WAIT_POLICY ?= passive

.DEFAULT_GOAL := help
PLAN ?= quick
SAMPLE ?= 50
.PHONY: help env lab reproduce check keep faults mutants test test-slow unets readme notebooks docs lock clean

help: ## this list
	@grep -hE '^[a-z-]+%?:.*?## ' $(MAKEFILE_LIST) | awk -F ':.*?## ' '{printf "  make %-12s %s\n", $$1, $$2}'

env: $(VENV)/.ready ## the Python environment in .venv, from requirements.lock

$(VENV)/.ready: $(wildcard requirements*.lock) settings.ini setup.py
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(f"Python 3.11 or newer is needed for the locked versions, {v.major}.{v.minor} was found; say make PYTHON=/path/to/python3.11") if v < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	@echo "Installing (about two minutes) ..."
	@$(PIP) --quiet --no-deps -r requirements-cpu.lock 2>/dev/null && build=cpu || { build=cuda; echo "pip was not told of PyTorch's CPU build: taking the package index's, on Linux with CUDA"; } ; \
	  echo "pip install --require-hashes -r requirements-$$build.lock -r requirements.lock" ; \
	  $(PIP) --progress-bar on -r requirements-$$build.lock -r requirements.lock | grep --line-buffered -vE "already satisfied|^WARNING" ; test $${PIPESTATUS[0]} -eq 0
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(PIP) --quiet --no-deps --no-build-isolation -r requirements-clustpy.lock || echo "ClustPy could not be built (a C compiler and Python's headers are needed): its methods will be missing from the tables, all else works. To try again: rm $(VENV)/.ready; make env"
	@touch $@

reproduce: env ## every table and figure, and results/quick/report.html; PLAN=full: all data sets, up to 5 seeds, in results/full (a day)
	$(RUN) python -m workflow.reproduce --plan $(PLAN) $(ARGS)

check: env ## make the quick plan anew and compare its figures with the committed ones of the full plan
	rm -rf runs/check
	$(RUN) python -m workflow.reproduce --plan quick --runs runs/check --out runs/check/out
	$(RUN) python -m workflow.check runs/check/out results

keep: env ## after PLAN=full: compare results/full with the committed results, then put it in their place
	-$(RUN) python -m workflow.check results/full results
	cp -R results/full/. results/

test: env ## export, clean, README, every notebook, every test that is not slow
	$(RUN) bash tools/test.sh

test-slow: env ## the slow tests: kills in a loop, the whole batch, several processes, an installation
	$(RUN) bash tools/test.sh slow

lab: env ## JupyterLab on the notebooks
	$(RUN) jupyter lab --notebook-dir nbs --LabApp.default_url=/lab/tree/index.ipynb

unets: unet-digits unet-mnist-5k unet-fashion-mnist ## pretrain the shipped U-Nets from nothing (hours)

unet-%: env ## pretrain the U-Net of one data set from nothing: unet-digits, unet-mnist-5k, ...
	$(RUN) python -m diec.app.pretrain $* --out diec/unets/$* --checkpoint runs/$*.safetensors

readme: env ## README.md from nbs/index.ipynb
	$(RUN) python -m tools.readme

notebooks: env ## run every notebook and store its outputs
	$(RUN) bash tools/notebooks.sh

docs: env ## the documentation site in _docs; open _docs/index.html
	$(RUN) NO_MKDOCS_2_WARNING=1 python -m mkdocs build --quiet --strict --config-file docs/mkdocs.yml

faults: env ## kill, fill and feed rubbish, and see what is left; results/tables/faults (an hour)
	$(RUN) python -m tools.faults --out results $(ARGS)

mutants: env ## small faults in the code, and how many the tests find; results/tables/mutants; SAMPLE=all: every one, not 50 a module
	$(RUN) python -m tools.mutants --sample $(SAMPLE) --out results $(ARGS)

lock: ## the lock files with the newest versions that settings.ini allows; ARGS=--keep: keep the versions that are there
	bash tools/lock.sh $(PYTHON) $(ARGS)

clean: ## remove what can be made again (.venv and runs/, the records of hours, stay)
	rm -rf build dist *.egg-info _docs _proc .pytest_cache results/quick results/full results/tiny runs/check
