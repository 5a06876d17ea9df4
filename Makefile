# Fovea: everything a newcomer needs. `make demo` and `make test` do all their own set-up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8000

.DEFAULT_GOAL := help
.PHONY: help demo up test test-fast check lint types contracts migrations deploy bench clean

help: ## List what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Fovea needs Python 3.11 or newer; say which with: make PYTHON=python3.12 …"; exit 1; }
	@echo "→ Making a virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/installed: pyproject.toml | $(BIN)/python
	@echo "→ Installing Fovea and what it stands on (a minute or two, once)"
	@$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/installed-dev: pyproject.toml | $(BIN)/python
	@echo "→ Installing Fovea with its test tools (a minute or two, once)"
	@$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@# TrackEval scores the tracker; with its dependencies it would replace OpenCV's headless build.
	@$(BIN)/python -m pip install --quiet --no-deps 'trackeval>=1.0'
	@$(BIN)/python -m pip install --quiet --editable '.[deeplab]' || echo "  (no build of the DeepLab runtime for this Python: its tests will be skipped)"
	@$(BIN)/python -m pip install --quiet --editable '.[onnx]' || echo "  (no build of ONNX Runtime for this Python: its tests will be skipped)"
	@$(BIN)/python -m pip install --quiet --editable '.[sam]' || echo "  (no torch for this Python: the tests of SAM 2 and SAM 3 will be skipped)"
	@$(BIN)/python -m pip install --quiet --editable '.[openvino]' || echo "  (no build of OpenVINO for this Python: its tests will be skipped)"
	@# Meta's own package asks for torchvision, which we do without, and for a compiler of CUDA, which it can do without.
	@$(BIN)/python -m pip install --quiet setuptools wheel hydra-core iopath && \
	  SAM2_BUILD_CUDA=0 $(BIN)/python -m pip install --quiet --no-build-isolation --no-deps 'sam2==1.1.0' || \
	  echo "  (Meta's sam2 cannot be installed here: its tests will be skipped)"
	@touch $@ $(VENV)/installed

# Datumaro pins older releases of libraries the engine uses: it reads our exports from an environment of its own.
$(VENV)-datumaro/installed:
	@echo "→ Installing Datumaro, which reads the exports back"
	@$(PYTHON) -m venv $(VENV)-datumaro
	@$(VENV)-datumaro/bin/python -m pip install --quiet 'datumaro>=1.10' && touch $@ || echo "  (Datumaro cannot be installed here: its tests will be skipped)"

demo: $(VENV)/installed ## Record, label, track and export a small scene, then serve the result on localhost
	@$(BIN)/python manage.py demo --port $(PORT)

up: $(VENV)/installed ## Serve the web application with its workers
	@$(BIN)/python manage.py up --port $(PORT)

test: $(VENV)/installed-dev $(VENV)-datumaro/installed ## Run all tests that this machine can run, on every database it offers
	@$(BIN)/python tests/run.py

test-fast: $(VENV)/installed-dev ## Run the quick tests on SQLite
	@$(BIN)/python -m pytest -q -n 2

check: lint types contracts migrations deploy ## Lint, types, import contracts, migrations, deployment settings

lint: $(VENV)/installed-dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(VENV)/installed-dev
	@$(BIN)/mypy

contracts: $(VENV)/installed-dev
	@PYTHONPATH=.:platform $(BIN)/lint-imports

migrations: $(VENV)/installed-dev
	@$(BIN)/python manage.py makemigrations --check --dry-run

deploy: $(VENV)/installed-dev
	@HTTPS=1 ALLOWED_HOSTS=example.org $(BIN)/python manage.py check --deploy --fail-level WARNING

bench: $(VENV)/installed-dev ## Print the measured numbers beside their baselines
	@missed=0; for file in benchmarks/[a-z]*.py; do name=$$(basename $$file .py); echo; echo "== $$name"; \
	  $(BIN)/python -m benchmarks.$$name || missed=1; done; exit $$missed

clean: ## Remove the virtual environment and caches (your work in var/ stays)
	@rm -rf $(VENV) $(VENV)-datumaro .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
