# Thin: each target says what runs; scripts/ holds how environments are made. `make` alone lists the targets.
.DEFAULT_GOAL := help
.PHONY: bench cost help env triton-env openai2-env load-env serve test lint types check fix proto score loadtest build clean
BIN := .venv/bin

help:  ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | while IFS="$$(printf '\t')" read -r t d; do printf '  make %-12s %s\n' "$$t" "$$d"; done

env:  ## make .venv with the development tools
	@scripts/environment dev

triton-env:  ## make .venv-triton: the embedded Triton and what its models import
	@scripts/environment triton

openai2-env:  ## make .venv-openai2: the older major of openai-python, for its test
	@scripts/environment openai2

load-env:  ## make .venv-load: Locust, for the load tests
	@scripts/environment load

serve:  ## start Triton and the gateway; pass flags with ARGS="--http 127.0.0.1:9000"
	@scripts/environment runtime
	@scripts/environment triton
	@exec $(BIN)/penstock serve $(ARGS)

test: check triton-env openai2-env load-env  ## everything: linters, types, floors, then the tests against a real Triton; ARGS goes to pytest
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: env  ## ruff: rules and format
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

types: env  ## mypy, strict
	@$(BIN)/mypy

check: lint types  ## lint, types and the floors of the house
	@$(BIN)/lint-imports --no-logo

fix: env  ## ruff: mend what it can, sort imports, format
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

proto: env  ## generate the stubs beside the .proto files
	@scripts/protos

score: triton-env  ## held-out scores of the embedded assistant
	@.venv-triton/bin/python model_repo/training/score.py $(ARGS)

cost: env  ## write down what a request and a token cost, in instructions; the tests hold the path to it
	@$(BIN)/python -m tests.cost

bench: env triton-env  ## Penstock beside its peers: CPU, latency, memory; QUICK=1 for the essentials in 5 minutes, ARGS="--help"
	@$(BIN)/python -m loadtests.bench $(if $(QUICK),--quick) $(ARGS)

loadtest: load-env  ## load on a running gateway; ARGS="--users 20 --run-time 30s", RAMP=1 for steps, UI=1 for the web UI
	@exec .venv-load/bin/locust -f loadtests/$(if $(UI)$(RAMP),ramp,locustfile).py \
		$(if $(UI),--class-picker --web-host 127.0.0.1,--headless --only-summary) \
		$(if $(UI)$(RAMP),,--users 12 --spawn-rate 12 --run-time 15s) $(ARGS)

build: env  ## build the wheel into dist/
	@$(BIN)/hatchling build --target wheel

clean:  ## remove environments, caches and built files; .penstock/ (state) stays
	rm -rf .bench .venv .venv-triton .venv-openai2 .venv-load .venv*.lock .venv*.log dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find gateway kernels model_repo tests -name __pycache__ -prune -exec rm -rf {} +
