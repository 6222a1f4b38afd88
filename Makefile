# Commands for everything in the README. `make help` lists them.
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
.PHONY: help env lab reproduce check keep faults mutants benchmarks format test test-slow unets readme notebooks docs lock clean

help: ## list the commands
	@grep -hE '^[a-z-]+%?:.*?## ' $(MAKEFILE_LIST) | awk -F ':.*?## ' '{printf "  make %-12s %s\n", $$1, $$2}'

env: $(VENV)/.ready ## create the Python environment .venv from the lock files

$(VENV)/.ready: $(wildcard requirements*.lock) settings.ini setup.py
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(f"the locked versions need Python 3.11 or newer, found {v.major}.{v.minor}; run make PYTHON=/path/to/python3.11") if v < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	@echo "Installing (about two minutes) ..."
	@$(PIP) --quiet --no-deps -r requirements-cpu.lock 2>/dev/null && build=cpu || { build=cuda; echo "pip knows no index with PyTorch's CPU build: installing the build of the package index, on Linux with CUDA"; } ; \
	  echo "pip install --require-hashes -r requirements-$$build.lock -r requirements.lock" ; \
	  $(PIP) --progress-bar on -r requirements-$$build.lock -r requirements.lock | grep --line-buffered -vE "already satisfied|^WARNING" ; test $${PIPESTATUS[0]} -eq 0
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(PIP) --quiet --no-deps --no-build-isolation -r requirements-clustpy.lock || echo "ClustPy could not be built (it needs a C compiler and the Python headers): the tables will lack its methods, everything else works. To try again: rm $(VENV)/.ready; make env"
	@touch $@

reproduce: env ## make every table and figure and results/quick/report.html (15 minutes); PLAN=full: all data sets, up to 5 seeds, in results/full (days); PLAN=paper: the paper's data sets, whole (days)
	$(RUN) python -m workflow.reproduce --plan $(PLAN) $(ARGS)

check: env ## run digits from scratch and compare its numbers with the committed results (half an hour)
	rm -rf runs/check
	$(RUN) python -m workflow.reproduce --plan check
	$(RUN) python -m workflow.check runs/check/out results

NEW  = $(if $(filter quick full,$(PLAN)),results/full,results/$(PLAN)-new)
KEPT = $(if $(filter quick full,$(PLAN)),results,results/$(PLAN))
keep: env ## after PLAN=full: replace the committed results by results/full, if they agree; FORCE=1: also if they differ; PLAN=paper: results/paper
	test -d $(NEW) && mkdir -p $(KEPT)
	$(RUN) python -m workflow.check $(NEW) $(KEPT) || test -n "$(FORCE)"
	cp -R $(NEW)/. $(KEPT)/
	$(RUN) python -m workflow.records keep $(if $(filter quick,$(PLAN)),full,$(PLAN))

test: env ## check style, exports and README, and run all notebooks and all tests that are not slow (20 minutes)
	$(RUN) bash tools/test.sh

test-slow: env ## run the slow tests: repeated kills, the complete batch, several processes, an installation
	$(RUN) bash tools/test.sh slow

lab: env ## open the notebooks in JupyterLab
	$(RUN) jupyter lab --notebook-dir nbs --LabApp.default_url=/lab/tree/index.ipynb

unets: unet-digits unet-mnist-5k unet-usps unet-mnist unet-fashion-mnist unet-cifar10 ## pretrain the U-Nets of the package from scratch (days; minutes on a GPU by workflow.pretrain_on_gpu)

# Train until the embedding has stopped improving, then let the learning rate fall. Two are older, and had 8,000 steps each.
unet-digits unet-mnist-5k: unet-%: env
	$(RUN) python -m diec.app.pretrain $* --out diec/unets/$* --checkpoint runs/$*.safetensors

unet-%: env ## pretrain the U-Net of one data set from scratch: unet-digits, unet-mnist-5k, ...
	$(RUN) python -m diec.app.pretrain $* --early-stopping --out runs/constant-rate/$* --checkpoint runs/$*.safetensors
	$(RUN) python -m diec.app.pretrain $* --cooldown runs/constant-rate/$* --out diec/unets/$* --checkpoint runs/$*-cooldown.safetensors

readme: env ## write README.md from nbs/index.ipynb
	$(RUN) python -m tools.readme

format: env ## fix imports and simple errors with ruff, then export and clean the notebooks
	$(RUN) ruff check --fix benchmarks nbs tests tools workflow && ruff format tests
	$(RUN) nbdev_export && nbdev_clean && python -m tools.stubs

notebooks: env ## run all notebooks, store their outputs, and write README.md
	$(RUN) bash tools/notebooks.sh

docs: env ## build the documentation site in _docs; open _docs/index.html
	$(RUN) NO_MKDOCS_2_WARNING=1 python -m mkdocs build --quiet --strict --config-file docs/mkdocs.yml

faults: env ## test kills, full disks and damaged files, and write results/tables/faults (an hour)
	$(RUN) python -m tools.faults --out results $(ARGS)

mutants: env ## test how many small faults in the code the tests find, and write results/tables/mutants; SAMPLE=all: all, not 50 per module
	$(RUN) python -m tools.mutants --sample $(SAMPLE) --out results $(ARGS)

benchmarks: env ## measure the speed of each part beside a reference (4 minutes); ARGS="--size full": on more images (an hour)
	$(RUN) python -m pytest benchmarks --benchmark-only $(ARGS)

lock: ## write the lock files with the newest versions that settings.ini allows; ARGS=--keep: keep the current versions
	bash tools/lock.sh $(PYTHON) $(ARGS)

clean: ## remove generated files, but not .venv and runs/, which take hours
	rm -rf build dist *.egg-info _docs _proc .pytest_cache results/quick results/full results/*-new results/tiny runs/check
