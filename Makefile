# What people run. `make help` lists it; everything works in .venv, which `make install` builds from hash-locked lists.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

BIN := .venv/bin
# Training needs nothing beyond the image.
STEPS := preprocess validate evaluate deploy
# What the embedded SageMaker is measured beside. Some exclude each other, so each has an environment of its own.
PEERS := metaflow kedro prefect zenml
SERVERS := fastapi litserve bentoml mlserver
# Reads images beside our data steps. Not in PEERS, because it is locked by another way; see its .in file.
READER := torchvision

.PHONY: help
help:  ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

# The first interpreter that works: a name on the PATH may be a shim for a version that is not there. PYTHON names another.
.PHONY: python
python:
	@for candidate in $(or $(PYTHON),python3.12 python3.11 python3 python); do \
	  if "$$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' >/dev/null 2>&1; then \
	    echo "$$candidate" > .python; exit 0; fi; done; \
	echo "make: Python 3.11 or 3.12 is needed, and none was found on the PATH" >&2; exit 1

.PHONY: install
install: .venv/installed  ## build .venv from requirements/dev.txt

# uv installs in seconds; where it cannot be had, pip does the same from the same list. Compiling pays for itself with the
# first run: each of its jobs imports TensorFlow or Great Expectations in a process of its own.
.venv/installed: requirements/dev.txt requirements/uv.txt pyproject.toml
	@$(MAKE) --no-print-directory python
	@echo "installing into .venv (about 2.5 GB, once)"
	@rm -rf .venv && "$$(cat .python)" -m venv .venv && rm .python
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt \
	  || echo "uv cannot be had here; pip takes its place, and a few minutes longer"
	@if [ -x $(BIN)/uv ]; then \
	  $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements/dev.txt && \
	  $(BIN)/uv pip install --quiet --python $(BIN)/python --no-build-isolation --no-deps -e .; \
	else \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .; \
	fi
	@touch $@

.PHONY: run
run: install  ## a model's whole life on drawn signs, in the embedded SageMaker
	@$(BIN)/signs run

.PHONY: gtsrb
gtsrb: install  ## the same on the real benchmark; DATA=folder or DATA=s3://... if you have it
	@$(BIN)/signs run --data $(or $(DATA),official)

.PHONY: test
test: install  ## unit, contract and integration tests
	@$(BIN)/python -m pytest

# The tests that look at the report need one; where it cannot be had, they say so and are skipped.
.PHONY: browser
browser:  ## install Chromium for the tests of the report, where apt-get can
	@if command -v chromium chromium-browser google-chrome >/dev/null; then echo "there is a browser"; \
	  elif timeout 600 sh -c 'apt-get update -qq && apt-get install -y -qq chromium' >/dev/null 2>&1; then echo "installed"; \
	  else echo "no Chromium can be installed here: the tests that need it will be skipped"; fi

.PHONY: lint
lint: install .venv-lint/installed  ## formatting, lint rules, types, workflows and templates; none of it needs a network
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/zizmor --offline --quiet --no-progress .github/workflows
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@$(BIN)/actionlint .github/workflows/*.yml
	@$(BIN)/hadolint infra/image/Dockerfile
	@$(BIN)/cfn-lint --non-zero-exit-code informational infra/aws/*.yaml
	@$(BIN)/python -m infra.policies infra/aws/*.yaml
	@.venv-lint/bin/checkov --config-file .checkov.yaml

.PHONY: format
format: install  ## format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

# An environment of its own in folder 1, from list 2.
APART = rm -rf $(1) && $(BIN)/python -m venv $(1) && \
  if [ -x $(BIN)/uv ]; then \
    $(BIN)/uv pip install --quiet --compile-bytecode --python $(1)/bin/python --require-hashes -r $(2); \
  else \
    $(1)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(2); \
  fi

.PHONY: bench-local
bench-local: install $(PEERS:%=.venv-bench/%/installed)  ## measure the embedded SageMaker beside other tools' runners
	@$(BIN)/python -m benchmarks.local

.PHONY: bench-train
bench-train: install .venv-bench/torch/installed  ## measure the training loop beside Keras and PyTorch
	@$(BIN)/python -m benchmarks.train

.PHONY: bench-presets
bench-presets: install  ## train presets on GTSRB and look at the test set once for each; DATA=folder with its zips
	@$(BIN)/python -m benchmarks.presets --archive $(DATA)

.PHONY: bench-ablation
bench-ablation: install  ## measure what each ingredient of the recipe is worth; DATA=folder with GTSRB's zips
	@$(BIN)/python -m benchmarks.ablation --archive $(DATA)

# PyTorch's list is not locked: its build for processors alone lies beside the index, or on an index of its own, and the
# one that the index has brings gigabytes of CUDA. pip finds whichever the machine is set up with; uv would not.
.venv-bench/torch/installed: benchmarks/requirements/torch.in | install
	@echo "installing torch into .venv-bench/torch"
	@rm -rf .venv-bench/torch && $(BIN)/python -m venv .venv-bench/torch
	@.venv-bench/torch/bin/python -m pip install --quiet --disable-pip-version-check -r $< && touch $@ \
	  || echo "torch cannot be installed here"

.PHONY: bench-serve
bench-serve: install $(SERVERS:%=.venv-bench/%/installed)  ## measure the model server beside other model servers
	@$(BIN)/python -m benchmarks.serve

.PHONY: bench-data
bench-data: install .venv-bench/$(READER)/installed  ## measure the data steps on the real set; DATA=folder with its zips
	@$(BIN)/python -m benchmarks.data $(if $(DATA),--real $(DATA))

.PHONY: bench-drawn
bench-drawn: install  ## train on drawn signs, real ones, and both; DATA=folder with the official zips
	@$(BIN)/python -m benchmarks.drawn $(if $(DATA),--real $(DATA))

# With pip, which also finds what lies on the machine's own disk.
.venv-bench/$(READER)/installed: benchmarks/requirements/$(READER).txt | install
	@echo "installing $(READER) into .venv-bench/$(READER)"
	@rm -rf .venv-bench/$(READER) && $(BIN)/python -m venv .venv-bench/$(READER)
	@.venv-bench/$(READER)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $< \
	  && touch $@ || echo "$(READER) cannot be installed here"

# One that cannot be installed stops nothing: its row in the report says so.
.venv-bench/%/installed: benchmarks/requirements/%.txt | install
	@echo "installing $* into .venv-bench/$*"
	@$(call APART,.venv-bench/$*,$<) && touch $@ || echo "$* cannot be installed here"

.venv-lint/installed: requirements/checkov.txt | install
	@echo "installing checkov into .venv-lint"
	@$(call APART,.venv-lint,$<) && touch $@

# Addresses of package indexes must not get into the lists, hence the flags.
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
  --no-emit-index-url --no-emit-find-links

.PHONY: lock
lock: install  ## write the lock files anew
	@$(COMPILE) requirements/uv.in -o requirements/uv.txt
	@$(COMPILE) requirements/runtime.in -o requirements/runtime.txt
	@$(COMPILE) requirements/dev.in -c requirements/runtime.txt -o requirements/dev.txt
	@$(COMPILE) requirements/checkov.in -o requirements/checkov.txt
	@for step in $(STEPS); do \
	  $(COMPILE) steps/requirements/$$step.in -c requirements/runtime.txt -o steps/requirements/$$step.txt; done
	@for peer in $(PEERS) $(SERVERS); do $(COMPILE) benchmarks/requirements/$$peer.in -o benchmarks/requirements/$$peer.txt; done

.PHONY: clean
clean:  ## stop the embedded SageMaker and remove what was built here
	@if [ -x $(BIN)/signs ]; then $(BIN)/signs local stop; fi
	@rm -rf .venv .venv-bench .venv-lint .signs .pytest_cache .mypy_cache .ruff_cache
