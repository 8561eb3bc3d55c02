# Every target installs what it needs into .venv; nothing but Python 3.11 or newer is expected to be there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1
unexport PYTHONDONTWRITEBYTECODE # tests start hundreds of processes that import the package

.DEFAULT_GOAL := help
.PHONY: help install demo check quick test pytest lint bench bench-serving bench-models up clean

help: ## Show what each target does
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "bid_assets needs Python 3.11 or newer; set PYTHON=")'
	@echo "Installing into $(VENV) (some minutes, once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --constraint constraints.txt --upgrade pip # Python 3.11's own takes twice the CPU time
	@$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev]'
	@touch $@

install: $(INSTALLED) ## Install the package and its tools into .venv

demo: $(INSTALLED) ## From nothing to an active model on a simulated market, in minutes
	@$(BIN)/bid-assets demo

lint: $(INSTALLED) ## Lint, formatting, types, and whether Dagster can load the code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	DAGSTER_HOME=$(CURDIR) $(BIN)/dg check defs

quick: $(INSTALLED)
	$(BIN)/pytest --numprocesses 2 --dist loadfile -m "not slow and not browser and not server"

check: $(INSTALLED) ## Lint, types and the tests that need no server and no browser
	@$(MAKE) --no-print-directory --jobs 2 lint quick

pytest: $(INSTALLED)
	$(BIN)/pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

test: $(INSTALLED) ## Lint, types and the whole test suite
	@$(MAKE) --no-print-directory --jobs 2 lint pytest # mypy is busy while tests wait

bench: $(INSTALLED) ## Measure against what others would do; prints ratios, asserts nothing
	$(BIN)/python -m bid_assets_tests.benchmarks

.venv-bench/.installed: $(INSTALLED) Makefile
	@echo "Installing MLflow, LightGBM and CatBoost into .venv-bench (some minutes, once)"
	@$(PYTHON) -m venv .venv-bench
	@.venv-bench/bin/pip install --quiet mlflow==3.17.2 lightgbm==4.7.0 catboost==1.2.10 \
		$$($(BIN)/python -c 'from importlib.metadata import version; print(*(f"{n}=={version(n)}" for n in ("xgboost", "scikit-learn")))')
	@touch $@

bench-serving: .venv-bench/.installed ## Measure the prediction service beside MLflow and an empty endpoint (needs wrk)
	@command -v wrk >/dev/null || { echo "wrk is missing: apt-get install wrk"; exit 1; }
	@$(BIN)/python -m bid_assets_tests.benchmarks.serving --mlflow .venv-bench/bin/python

bench-models: .venv-bench/.installed ## Judge the model beside LightGBM, XGBoost and CatBoost; writes docs/results/current.md
	@BID_ASSETS_ENCODER=$${BID_ASSETS_ENCODER:-static} $(BIN)/python -m bid_assets_tests.benchmarks.bench_models --peers .venv-bench/bin/python

up: $(INSTALLED) ## Dagster's web server and daemon over your data; Ctrl-C stops everything
	@$(BIN)/bid-assets up

clean: ## Remove what was installed and all local state (databases, versions, caches)
	rm -rf $(VENV) .venv-bench .bid_assets .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
