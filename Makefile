# Two commands are all a new machine needs: `make run` and `make test`.
PYTHON ?= $(shell for each in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$each -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$each && break; done)
BIN := .venv/bin
DATA ?= data

.PHONY: help install run test check bench bench-short bench-full chaos chaos-short fmt schemas prices docs clean

help: ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install:
	@test -n "$(PYTHON)" || { echo "AgentOps needs Python 3.11 or newer, and found none. If it has another name: make PYTHON=/path/to/python …" >&2; exit 1; }
	@$(PYTHON) infra/install.py

run: install ## start everything, with the embedded NATS and the demo agents; options: make run ARGS='--dashboard-port 8801'
	@$(BIN)/agentops up --demo --data $(DATA) $(ARGS)

test: install ## run the tests
	@$(BIN)/python -m pytest -m "not system" -n 3 --dist loadfile
	@$(BIN)/python -m pytest -m system

check: install ## what CI checks besides the tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m schemas.export --check
	$(BIN)/python -m infra.reference --check
	$(BIN)/python -m processors.cost.snapshot --check

bench: install ## measure speed, latency, size and peers: about 15 minutes; figures go to benchmarks/results/latest.json
	@$(BIN)/python -m benchmarks

chaos: install ## everything goes wrong for an hour; ends with one line of figures
	@$(BIN)/python -m chaos --seconds 3600

chaos-short: install ## the same for a minute
	@$(BIN)/python -m chaos --seconds 60

bench-short: install ## little of everything, in under three minutes
	@$(BIN)/python -m benchmarks --short

bench-full: install ## 50 million events and longer runs: over an hour
	@$(BIN)/python -m benchmarks --full

fmt: install ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

schemas: install ## write schemas/json/ anew
	$(BIN)/python -m schemas.export

prices: install ## make the default price book anew from the installed genai-prices
	$(BIN)/python -m processors.cost.snapshot

docs: install ## write the generated reference anew
	$(BIN)/python -m infra.reference

clean: ## remove what was installed and built; data stays
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
