# Everything runs from .venv, which these rules make. PYTHON picks the interpreter (3.11 to 3.13).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# One more than CI has cores: bots under test wait as often as they work.
JOBS ?= 3

# Hundreds of processes import the same code; an environment that forbids to keep it compiled would have each compile it anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test core check lint unit bench compat soak docs clean

$(VENV)/.run: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/.dev: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@ $(VENV)/.run

# One strategy, raw at 5x and guarded, on the same simulated market, through stock `freqtrade backtesting`.
demo: $(VENV)/.run
	$(BIN)/plimsoll demo

# Style and types beside the core, whose coverage is measured here: tracing every line of the rest would cost half as much again.
test: $(VENV)/.dev
	$(MAKE) --no-print-directory -j 2 --output-sync=recurse lint core
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --durations=25 --ignore tests/unit --ignore tests/properties tests

core: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --cov --cov-report=term:skip-covered tests/unit tests/properties

# The quick part, under a minute: style, types, contracts, pure rules.
check: lint unit

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Each more worker imports Freqtrade once more.
unit: $(VENV)/.dev
	$(BIN)/python -m pytest -q -n 2 -m 'not slow and not postgres and not freqtrade' tests/unit tests/properties

# `make bench BENCH="--markdown docs/performance.md"` writes the page as well.
bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks $(BENCH)

# The quick suite on the supported Pythons and Freqtrade releases; makes virtual environments under .venv-compat/.
compat: $(VENV)/.dev
	$(BIN)/python scripts/compat.py --jobs $(JOBS) $(COMPAT)

soak: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(JOBS) -m slow --override-ini 'addopts=-ra --strict-markers --strict-config' tests

# What of the handbook is made from the code: the settings reference and the pictures. Then the site, in user_data/site.
docs: $(VENV)/.dev
	$(BIN)/python -m plimsoll.settings.reference > docs/settings.md
	$(BIN)/python docs/pictures
	$(BIN)/mkdocs build --quiet --strict

clean:
	rm -rf $(VENV) .venv-compat .mypy_cache .ruff_cache .pytest_cache .import_linter_cache user_data/plimsoll
