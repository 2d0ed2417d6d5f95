# The verbs of this repository. A generated project has a Makefile of its own.

PYTHON ?= python3
HTTP_PORT ?= 8000
ADMIN_PORT ?= 8001
PYTEST_ARGS ?=
AIOHTTP_ARGS ?=
CHAOS_ARGS ?=
SOAK_ARGS ?=
BENCH_ARGS ?=
BEHAVIOUR_ARGS ?=

TEMPLATE := <<cookiecutter.project_slug>>
VENV := .venv
BIN := $(VENV)/bin
PROJECT := build/hello
# The commands of the project's own `make run`: taken over, they leave no make in between that
# could be killed without what it started.
RUN = $(MAKE) --no-print-directory -C $(PROJECT) --dry-run run \
    HTTP_PORT=$(HTTP_PORT) ADMIN_PORT=$(ADMIN_PORT)
# CI has another, which runs a failed test once more.
PYTEST := $(BIN)/python -m pytest
INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check

.DELETE_ON_ERROR:
.PHONY: help run bake test test-unit test-long test-runtime test-template test-aiohttp chaos soak \
    bench behaviour docs check audit pin format clean

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "Variables: HTTP_PORT=$(HTTP_PORT) and ADMIN_PORT=$(ADMIN_PORT) (run), PYTEST_ARGS (test,"
	@echo "docs), AIOHTTP_ARGS (test-aiohttp), CHAOS_ARGS (chaos), SOAK_ARGS (soak),"
	@echo "BENCH_ARGS (bench), BEHAVIOUR_ARGS (behaviour), PYTHON=$(PYTHON) (3.11 or newer, used once to make $(VENV))"

run: ## bake the default project into build/ if it is not there, then serve it
	@test -e $(PROJECT)/Makefile || $(MAKE) --no-print-directory bake
	@commands=$$($(RUN)) && cd $(PROJECT) && exec sh -ec "$$commands"

# HOME, because cookiecutter leaves notes there.
bake: $(VENV)/.bake ## bake the default project again; the one before is kept as build/hello.before
	@if [ -e $(PROJECT) ]; then rm -rf $(PROJECT).before && mv $(PROJECT) $(PROJECT).before; fi
	@echo "Baking the default project into $(PROJECT)"
	@HOME="$(CURDIR)/$(VENV)" $(BIN)/python -m cookiecutter --no-input --default-config \
	--output-dir build "$(CURDIR)"

test: $(VENV)/.dev ## run every test, in two processes; narrow with PYTEST_ARGS="-k reload"
	@$(PYTEST) --numprocesses 2 --dist loadscope $(PYTEST_ARGS)

test-unit: $(VENV)/.dev ## run the quick tests, which start no process, with few random examples
	@EXAMPLES=10 $(PYTEST) runtime/tests/unit testkit --numprocesses 2 \
	--dist loadscope -m "not slow" $(PYTEST_ARGS)

test-long: $(VENV)/.dev ## run the same with many random examples, and count many lives: takes long
	@EXAMPLES=5000 $(BIN)/python -m pytest runtime/tests/unit runtime/tests/system/test_metrics.py \
	--numprocesses 2 --dist loadscope --timeout 0 $(PYTEST_ARGS)

test-runtime: $(VENV)/.dev ## run the runtime's tests
	@$(PYTEST) runtime/tests $(PYTEST_ARGS)

test-template: $(VENV)/.dev ## run the template's tests
	@$(PYTEST) tests $(PYTEST_ARGS)

test-aiohttp: $(VENV)/.dev ## run aiohttp's own tests on our connections: needs the network once
	@$(BIN)/python -m runtime.tests.aiohttp_suite $(AIOHTTP_ARGS)

chaos: $(VENV)/.dev ## play every fault in full, and print what it cost; narrow with CHAOS_ARGS=HUP
	@$(BIN)/python -m runtime.tests.chaos $(CHAOS_ARGS)

soak: $(VENV)/.dev ## serve mixed traffic for half an hour, reload and kill; narrow with SOAK_ARGS="--minutes 5"
	@$(BIN)/python -m runtime.tests.chaos.soak $(SOAK_ARGS)

bench: $(VENV)/.dev ## measure API-Hour beside other servers; narrow with BENCH_ARGS="--only aiohttp"
	@$(BIN)/python -m benchmarks $(BENCH_ARGS)

behaviour: $(VENV)/.dev ## try what servers do when hurt; narrow with BEHAVIOUR_ARGS="--only uvicorn"
	@$(BIN)/python -m benchmarks.behaviour $(BEHAVIOUR_ARGS)

docs: $(VENV)/.docs ## build the pages into build/docs/html, then do what they say
	@rm -rf build/docs
	@$(BIN)/python -m sphinx --quiet --fail-on-warning --nitpicky --doctree-dir build/docs/doctrees \
	docs build/docs/html
	@$(PYTEST) docs/tests --numprocesses 2 --dist worksteal $(PYTEST_ARGS)

check: $(VENV)/.docs ## lint, format, imports, types and English; changes nothing
	@$(BIN)/python -m ruff check
	@$(BIN)/python -m ruff format --check
	@said=$$($(BIN)/lint-imports --no-logo --no-cache) && echo "$$said" | tail -n 1 \
	|| { echo "$$said"; exit 1; }
	@$(BIN)/python -m mypy runtime/api_hour hooks update.py style .ci/retry.py
	@$(BIN)/python -m mypy --explicit-package-bases runtime/tests tests examples/tests docs/tests \
	testkit
	@$(BIN)/python -m mypy examples --exclude '^examples/tests/'
	@$(BIN)/python -m mypy benchmarks
	@$(BIN)/python -m mypy docs/conf.py docs/extensions
	@$(BIN)/python -m style

# --strict fails on what cannot be looked up; the runtime itself is in no index.
audit: $(VENV)/.dev ## look up known vulnerabilities in what is installed here; needs the network
	@$(BIN)/python -m pip list --disable-pip-version-check --exclude-editable --format freeze \
	> $(VENV)/audited
	@rm -f $(VENV)/vulnerabilities
	@$(BIN)/python -m pip_audit --strict --disable-pip --no-deps --progress-spinner off \
	--requirement $(VENV)/audited --output $(VENV)/vulnerabilities || { \
	cat $(VENV)/vulnerabilities 2>/dev/null || echo "make audit: nothing was audited, because the" \
	"advisories cannot be looked up: try again with a network" >&2; exit 1; }

WORKFLOWS := .github/workflows/ci.yml "$(TEMPLATE)/.github/workflows/ci.yml"
pin: ## renew the commits of the actions, here and in the template: what their tags mean today
	@$(PYTHON) "$(TEMPLATE)/deploy/pin.py" $(WORKFLOWS)

format: $(VENV)/.dev ## put the code into the form that check wants
	@$(BIN)/python -m ruff check --fix
	@$(BIN)/python -m ruff format

clean: ## remove what the verbs made: environments, caches, and build/ with its project's data
	rm -rf $(VENV) build benchmarks/.venvs .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A dangling link counts as missing: .venv is made again when its Python went away.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("API-Hour needs Python \
	3.11 or newer, and $(PYTHON) is %s: name another, as in make run PYTHON=python3.12" \
	% sys.version.split()[0])'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make a virtual" \
	"environment: install its venv module (on Debian: apt install python3-venv)" >&2; exit 1; }
	@echo "Making the virtual environment $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV)

$(VENV)/.bake: requirements.txt | $(BIN)/python
	@echo "Installing cookiecutter into $(VENV)"
	@$(INSTALL) -r requirements.txt
	@touch $@

$(VENV)/.dev: requirements.txt requirements-dev.txt benchmarks/techempower/requirements.txt \
    runtime/pyproject.toml | $(BIN)/python
	@echo "Installing the runtime and the development tools into $(VENV): takes a while"
	@$(INSTALL) -r requirements-dev.txt
	@touch $@ $(VENV)/.bake

$(VENV)/.docs: docs/requirements.txt | $(VENV)/.dev
	@echo "Installing what builds the pages into $(VENV)"
	@$(INSTALL) -r docs/requirements.txt
	@touch $@
