# Every target does its own set-up in .venv; nothing but Python >= 3.11 and make is needed.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# What the demo needs, and what tests need beside it.
RUN    := $(VENV)/.run
DEV    := $(VENV)/.dev
PIP    := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test check bench soak chaos group-chaos simulate clean lock

demo: $(RUN)
	@$(BIN)/tvbus demo

test: check
	$(BIN)/python -m tests.run

check: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: $(DEV)
	$(BIN)/python -m tests.bench

# Sixty series at sixty times the speed, compared with the truth at the end.
MINUTES ?= 10
soak: $(DEV)
	$(BIN)/python -m tests.soak --minutes $(MINUTES)

# Random faults upon publishers, consumer, Redis, network and TradingView; SEED=7 draws the same again.
chaos: $(DEV)
	$(BIN)/python -m tests.chaos --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

# Members of a group come, go, die and sleep while a hundred series flow; SEED as above.
SECONDS ?= 120
group-chaos: $(DEV)
	$(BIN)/python -m tests.group_chaos --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

# A thousand runs in virtual time, and the hunt for every planted bug; SEEDS=50 for fewer.
SEEDS ?= 1000
simulate: $(DEV)
	$(BIN)/python -m tests.simulation --seeds $(SEEDS) --bugs

clean:
	rm -rf $(VENV) .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info

# Resolve the newest versions that pyproject.toml admits and pin them.
lock: $(DEV)
	$(BIN)/pip install --quiet --upgrade --upgrade-strategy eager -e '.[dev]'
	$(BIN)/pip freeze --exclude-editable --exclude tvbus > constraints.txt

$(RUN): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("tvbus needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": make PYTHON=python3.11") if sys.version_info < (3, 11) else None'
	@echo "Setting up $(VENV), once ..."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) -e .
	@touch $@

$(DEV): $(RUN)
	@echo "Adding what checks and tests need ..."
	@$(PIP) -e '.[dev]'
	@touch $@
