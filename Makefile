# `make smoke` needs nothing but Python 3.11+ and Debian's package archive; see README.md.
SHELL := /bin/bash
PYTEST := .venv/bin/pytest
# Compiled bytecode is what makes the second run quick; `make clean` removes it.
unexport PYTHONDONTWRITEBYTECODE
# DRILLS=1 also rotates and revokes keys on the embedded platform; ARGS goes to pytest as it is.
SMOKE_ARGS := $(if $(DRILLS),--drills) $(ARGS)
# SAMPLE=80: that many mutants of the services, chosen by the commit, no drills. Without it: all that there are.
MUTANTS := $(if $(SAMPLE),--only 'stack/*' --sample $(SAMPLE) --seed "$$(git rev-parse HEAD)",--drills)

.PHONY: help smoke test lint types faults mutants hostile compat docs report bench clean setup-smoke setup-dev

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup-smoke:
	@scripts/bootstrap smoke

setup-dev:
	@scripts/bootstrap dev

smoke: setup-smoke  ## Run the suite against the embedded platform: verdict, ledger, reports
	$(PYTEST) smoke/ --env local $(SMOKE_ARGS)

test: setup-dev  ## Run the tests of the project itself
	$(PYTEST) tests -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: setup-dev  ## Lint and format check
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

types: setup-dev  ## Type check, strict on the plugin
	.venv/bin/mypy

faults: setup-smoke  ## Inject every seeded fault and show which the suite detects
	.venv/bin/readiness self-test --retries 5 $(ARGS)

mutants: setup-smoke  ## Small changes of the platform's own code: which does the suite miss? Goes on where it stopped
	.venv/bin/readiness self-test --mutants $(MUTANTS) $(ARGS)

hostile: setup-dev  ## Hostile answers and runners: what was tried, and what survived
	.venv/bin/python -m tests.hostile $(ARGS)

compat: setup-dev  ## The suite on each Python; the built wheel with lowest and highest dependencies, beside other plugins
	$(PYTEST) tests/compat.py $(ARGS)

docs: setup-dev  ## Build the documentation into .stack/site, with its links checked
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build

report: setup-smoke  ## Show the last readiness report
	@cat reports/readiness.md

bench: setup-dev  ## Measure all of benchmarks/ into its RESULTS.md; ARGS names some of them, or --quick
	.venv/bin/python -m benchmarks $(ARGS)

clean:  ## Remove what was generated; the ledger in .readiness/ stays
	rm -rf .venv .stack .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find reports -mindepth 1 ! -name README.md -delete
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
