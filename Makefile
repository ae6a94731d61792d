# Two commands on a fresh machine with Python >= 3.12, git and make: `make demo` and `make test`. `make help` lists the rest.

VENV   ?= .venv
BIN    := $(VENV)/bin
JOBS   ?= 2
PYTEST := $(BIN)/python -m pytest
# pip may print hundreds of harmless warnings about package locations; they go to a log, whose tail is shown when something fails.
QUIETLY = >>$(1)/install.log 2>&1 || { grep -v "^WARNING: Location" $(1)/install.log | tail -n 25; echo "Installation failed; the whole log is $(1)/install.log"; exit 1; }

# Nobody is told what runs here.
export DO_NOT_TRACK := 1
export HF_HUB_DISABLE_TELEMETRY := 1
export RAY_USAGE_STATS_ENABLED := 0

.DEFAULT_GOAL := help
.PHONY: help demo test lint format bench studies docs test-latest-torchgeo constraints install clean

help: ## list the commands
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-22s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# ---------------------------------------------------------------------------------------------------------------- environment

install: $(VENV)/.installed ## make the environment (the other commands do it by themselves)

# The stamp is written last, so an interrupted installation is taken up again, and a second run finds nothing to do.
$(VENV)/.installed: pyproject.toml constraints.txt
	@python=$$(PYTHON="$(PYTHON)" sh tools/find-python) || exit 1; \
	test -x $(BIN)/python && $(BIN)/python -m pip --version >/dev/null 2>&1 || "$$python" -m venv --clear $(VENV) || exit 1; \
	echo "Installing into $(VENV) (the first time: several minutes, 8 GB; log in $(VENV)/install.log) ..."; \
	: > $(VENV)/install.log; \
	$(BIN)/python -m pip install -c constraints.txt -e '.[all,docs,dev]' $(call QUIETLY,$(VENV))
	@touch $@

# ------------------------------------------------------------------------------------------------------------------- commands

demo: $(VENV)/.installed ## run the embedded benchmark (simulated data) and say where its report is
	@$(BIN)/rs05bench demo

test: export OMP_NUM_THREADS = 1
test: export OPENBLAS_NUM_THREADS = 1
test: export MKL_NUM_THREADS = 1
test: export HF_HUB_OFFLINE = 1
# worksteal keeps a file's tests together, so that its fixtures are made once, and lets an idle worker take from the other's end.
test: $(VENV)/.installed ## run the whole suite, on JOBS=2 workers
	@$(PYTEST) -q -n $(JOBS) --dist worksteal $(ARGS)

lint: $(VENV)/.installed ## check format, style, types, the direction of imports, the words and the workflows
	@status=0; \
	for check in "ruff format --check ." "ruff check ." mypy "lint-imports --no-logo" "python tools/plain-words" \
		"zizmor --offline --quiet --persona auditor --min-severity low .github/workflows"; do $(BIN)/$$check || status=1; done; \
	exit $$status

format: $(VENV)/.installed ## format, and fix what can be fixed
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: export OMP_NUM_THREADS = 1
bench: export HF_HUB_OFFLINE = 1
bench: $(VENV)/.installed ## measure against the rivals and print the ratios (a quiet machine, please)
	@$(PYTEST) benchmarks -q -p no:cacheprovider -p no:xdist --benchmark-disable-gc --benchmark-columns=median,iqr,rounds $(ARGS)

studies: export HF_HUB_OFFLINE = 1
studies: $(VENV)/.installed ## run the long validations; each writes its page under docs/studies/
	@mkdir -p docs/studies
	@for study in studies/*.py; do \
		test -e "$$study" || continue; \
		page=docs/studies/$$(basename "$$study" .py).md; \
		echo "$$study -> $$page"; \
		$(BIN)/python "$$study" > "$$page.part" && mv "$$page.part" "$$page" || exit 1; \
	done
	@real=$${RS05BENCH_REAL:-../shared/real}; \
	if test -d "$$real"; then $(BIN)/python -m studies.questions all --data "$$real" --jobs $(JOBS); \
	else echo "No real data (RS05BENCH_REAL): the pages of studies/questions stay as they are"; fi

docs: export HF_HUB_OFFLINE = 1
docs: $(VENV)/.installed ## build the documentation, running its tutorials
	@rm -rf docs/reference/api # pages of modules that are gone
	@$(BIN)/python -m sphinx -q -b html docs docs/_build/html
	@echo "The documentation is docs/_build/html/index.html"

# TerraTorch holds TorchGeo below 0.10. Who uses the datasets without it gets the newest TorchGeo, so they are tested with it as well.
LATEST := .venv-latest
$(LATEST)/.installed: pyproject.toml constraints.txt tools/requirements-without
	@python=$$(PYTHON="$(PYTHON)" sh tools/find-python) || exit 1; \
	"$$python" -m venv --clear $(LATEST) || exit 1; \
	echo "Installing into $(LATEST) (several minutes, 8 GB; log in $(LATEST)/install.log) ..."; \
	grep -v -i -E '^(terratorch|torchgeo|torchgeo-bench)==' constraints.txt > $(LATEST)/constraints.txt; \
	$(LATEST)/bin/python tools/requirements-without terratorch torchgeo-bench > $(LATEST)/requirements.txt || exit 1; \
	$(LATEST)/bin/python -m pip install -c $(LATEST)/constraints.txt -r $(LATEST)/requirements.txt 'torchgeo>=0.10' $(call QUIETLY,$(LATEST)); \
	$(LATEST)/bin/python -m pip install --no-deps -e . $(call QUIETLY,$(LATEST))
	@touch $@

test-latest-torchgeo: export OMP_NUM_THREADS = 1
test-latest-torchgeo: export HF_HUB_OFFLINE = 1
test-latest-torchgeo: $(LATEST)/.installed ## run the tests of the datasets with TorchGeo >= 0.10, in an environment of their own
	@$(LATEST)/bin/python -c "import importlib.metadata as m; print('torchgeo', m.version('torchgeo'))"
	@$(LATEST)/bin/python -m pytest tests/datasets -q -n $(JOBS) --dist worksteal $(ARGS)

constraints: $(VENV)/.installed ## pin what is installed now (after lint and test have passed)
	@{ sed -n '/^#/p' constraints.txt; $(BIN)/python -m pip freeze --exclude-editable 2>/dev/null | grep -v -i '^rs05bench' | sort -f; } > constraints.txt.part
	@! grep -n '@ ' constraints.txt.part || { echo "not from a registry: see above"; rm constraints.txt.part; exit 1; }
	@mv constraints.txt.part constraints.txt

clean: ## remove the environments and everything that was built
	rm -rf $(VENV) $(LATEST) docs/_build docs/auto_examples build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .benchmarks
