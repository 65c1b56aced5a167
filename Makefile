# What people run. Each target says what it does in `make help`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST := $(BIN)/python -m pytest
# Control-plane tests wait more than they work. Files stay whole, since their tests share servers, and
# start in their order: the long ones come early.
SIDE_BY_SIDE ?= -n 4 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help install lint format crds docs test test-unit test-control-plane test-e2e sweep demo \
	bench-main-job bench-control-plane bench-failover bench-second-start bench-scaling bench-scaling-full bench-scaling-live bench-placement bench-defrag bench-fairness bench-plan bench-front-door bench-nothing-drops golden cluster cluster-down cluster-status clean

help: ## Show these targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## Make the virtual environment .venv with everything that development needs

# Debian's python3 has no ensurepip before python3-venv is installed.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Conch needs Python 3.11 or newer: make PYTHON=/path/to/python3 ..." >&2; exit 1; }
	@if ! $(PYTHON) -c 'import ensurepip' 2>/dev/null; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			echo "Installing python3-venv, which $(PYTHON) lacks"; \
			apt-get -q -y update && apt-get -q -y install --no-install-recommends python3-venv; \
		else \
			echo "$(PYTHON) can make no virtual environment: install python3-venv" >&2; exit 1; \
		fi; \
	fi
	$(PYTHON) -m venv $(VENV)

$(STAMP): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev,models]'
	@touch $@

lint: install ## Check style, types and layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy operator e2e tests examples docs
	$(BIN)/lint-imports

format: install ## Format the code and mend what ruff can mend
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

crds: install ## Generate crds/ from operator/conch/api, and the chart's copy where it has one
	$(BIN)/python -m conch.api.crd crds
	@if [ -d charts/conch/crds ]; then cp crds/*.yaml charts/conch/crds/; fi

docs: install ## Generate docs/reference/ from the code
	$(BIN)/python docs/generate.py

test: install ## Install what is needed, then run all tests: fast ones first, the real cluster last
	@$(MAKE) --no-print-directory test-unit
	@$(MAKE) --no-print-directory test-control-plane
	@$(MAKE) --no-print-directory test-e2e
	@echo "All tests passed."

test-unit: install ## Run units and properties: no cluster, no root
	@echo "== Units and properties"
	@$(PYTEST) -q -n 2 tests/unit tests/property || { echo "Units or properties failed: see above." >&2; exit 1; }

test-control-plane: install ## Run tests against a real API server, and against real servers of models
	@echo "== Control plane: a real API server, simulated nodes"
	@$(PYTEST) -q $(SIDE_BY_SIDE) tests/control_plane tests/protocols || { echo "Control-plane tests failed: see above." >&2; exit 1; }

sweep: install ## Kill the operator at every write of every scenario (the tests take a share a day)
	@CONCH_SWEEP_SHARE=1 $(PYTEST) -q tests/control_plane/test_crash_sweep.py

test-e2e: install ## Run tests on real kubelets with real Triton: the local cluster, or KUBECONFIG's
	@echo "== End to end: real kubelets, real Triton"
	@$(PYTEST) -q e2e/tests || { echo "End-to-end tests failed: see above; \`make cluster-status\` shows the cluster." >&2; exit 1; }

demo: install ## Show the main job on the local cluster, or on KUBECONFIG's
	@$(BIN)/python -m e2e.demo

bench-main-job: install ## Measure the main job into build/bench/main-job.json
	@$(BIN)/python -m e2e.bench.main_job

bench-control-plane: install ## Measure a thousand services into build/bench/control-plane.json
	@$(BIN)/python -m e2e.bench.control_plane

bench-failover: install ## Measure how long another operator takes over into build/bench/failover.json
	@$(BIN)/python -m e2e.bench.failover

bench-second-start: install ## Measure what the nodes' cache saves into build/bench/second-start.json
	@$(BIN)/python -m e2e.bench.second_start

bench-scaling: install ## Race scaling policies on recorded traces, one day each, into build/bench/scaling.json
	@$(BIN)/python -m e2e.bench.scaling

bench-scaling-full: install ## The same over all test days with five seeds
	@$(BIN)/python -m e2e.bench.scaling --full

bench-scaling-live: install ## Race Conch against KEDA on the local cluster into build/bench/scaling-live.json
	@$(BIN)/python -m e2e.bench.scaling_live

bench-placement: install ## Race placement policies on a recorded workload into build/bench/placement.json
	@$(BIN)/python -m e2e.bench.placement

bench-defrag: install ## Compare what moving replicas recovers on a recorded workload, into build/bench/defrag.json
	@$(BIN)/python -m e2e.bench.defrag

bench-fairness: install ## Compare how policies share a fleet between tenants, into build/bench/fairness.json
	@$(BIN)/python -m e2e.bench.fairness

bench-plan: install ## Measure what a decision costs for up to 5,000 services into build/bench/plan.json
	@$(BIN)/python -m e2e.bench.plan

bench-front-door: install ## Measure the front door into build/bench/front-door.json
	@$(BIN)/python -m e2e.bench.front_door

bench-nothing-drops: install ## Move, roll out, drain and kill under load, into build/bench/nothing-drops.json
	@$(BIN)/python -m e2e.bench.nothing_drops

golden: install ## Record anew what other autoscalers decide, from their own Go modules
	@$(BIN)/python -m e2e.golden

cluster: install ## Start the local cluster, or mend it (Linux, root)
	@$(BIN)/python -m e2e.cluster up

cluster-down: install ## Remove the local cluster; leaves nothing behind
	@$(BIN)/python -m e2e.cluster down

cluster-status: install ## Show each part of the local cluster
	@$(BIN)/python -m e2e.cluster status

clean: ## Remove build output and caches of the tree, not the cluster or its build cache
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find operator tests e2e examples docs -name __pycache__ -type d -prune -exec rm -rf {} +
