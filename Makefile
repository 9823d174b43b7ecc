# `make` lists the commands. Only make and a python3 must be installed.

SHELL := /bin/sh
.DEFAULT_GOAL := help

BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
ENV := .venv/.ready
SEED ?= 1
MINUTES ?= 10
DOCKER ?= docker
# What `make services` wrote, as an absolute path or below this folder.
SERVICES_DIR ?= $(CURDIR)/.services
WITH_SERVICES := if [ -f '$(SERVICES_DIR)/env' ]; then set -a; . '$(SERVICES_DIR)/env'; set +a; fi;

.PHONY: help demo test test-real test-faults test-browser services services-down torture lint format bench bench-long dev image lock clean

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(ENV): requirements-dev.lock pyproject.toml scripts/setup-env scripts/find-uv
	@scripts/setup-env
	@touch $@

demo: $(ENV) ## Run the whole stream on this machine, with a fake of every service (ARGS=--once ends by itself)
	@$(BIN)/gibsey-embedder demo $(ARGS)

test: $(ENV) ## Run the tests that need no service, four at a time (ARGS="-k window")
	@$(PYTEST) tests -q -n 4 --dist worksteal --ignore=tests/real --ignore=tests/faults --ignore=tests/browser $(ARGS)

lint: $(ENV) ## Check style, types and import rules
	@bad=0; \
	for check in 'ruff check .' 'ruff format --check .' mypy 'lint-imports --no-cache'; do \
		echo "$$check"; $(BIN)/$$check || bad=1; \
	done; exit $$bad

format: $(ENV) ## Format the code and apply the linter's fixes
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

services: ## Start real services for test-real and test-browser (ARGS="kafka cassandra5"; else all)
	@SERVICES_DIR='$(SERVICES_DIR)' tests/services/run up $(ARGS)

services-down: ## Stop them and delete their data (ARGS=kafka; else all)
	@SERVICES_DIR='$(SERVICES_DIR)' tests/services/run down $(ARGS)

test-real: $(ENV) ## Run the tests against those services, or others named by TEST_* variables
	@$(WITH_SERVICES) $(PYTEST) tests/real -q $(ARGS)

test-faults: $(ENV) ## Run the tests that kill, freeze and disconnect services, two at a time
	@$(PYTEST) tests/faults -q -n 2 --dist worksteal $(ARGS)

test-browser: $(ENV) ## Run the tests of the status page in a browser
	@$(WITH_SERVICES) $(PYTEST) tests/browser -q $(ARGS)

torture: $(ENV) ## Cause random faults for MINUTES=10 from SEED=1, then count lost pages
	@$(BIN)/python -m tests.faults.random_faults --seed $(SEED) --minutes $(MINUTES) $(ARGS)

bench: $(ENV) ## Measure speed, latency and memory in 10 minutes (ARGS="--against REF" compares two revisions)
	@$(BIN)/python -m bench $(ARGS)

bench-long: $(ENV) ## Measure everything in an hour, over a real Kafka (first: make services ARGS=kafka)
	@$(WITH_SERVICES) $(BIN)/python -m bench --long $(ARGS)

dev: $(ENV) ## Run the worker and restart it when the code changes
	@$(BIN)/watchfiles --filter python '$(BIN)/gibsey-embedder run' dataflow connectors gibsey_embedder

image: ## Build the container image gibsey-embedder:latest (DOCKER=podman for another builder)
	@version=$$(sed -n 's/^version = "\([^"]*\)".*/\1/p' pyproject.toml); \
	$(DOCKER) build --tag gibsey-embedder:$$version --tag gibsey-embedder:latest \
		--build-arg VERSION=$$version --build-arg REVISION=$$(git rev-parse HEAD) .

lock: ## Resolve the dependencies into the lock files again (ARGS=--upgrade for newer versions)
	@scripts/lock $(ARGS)

clean: ## Remove everything that make and the tests created
	rm -rf .venv .uv .uv.log .bench build dist .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
