VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
STAMP := $(VENV)/.installed
DOCS_STAMP := $(VENV)/.docs_installed

PIECES := speed.simulate accuracy.slices accuracy.seeds accuracy.bounds speed.measure speed.step

.PHONY: demo test lint docs bench clean

demo: $(STAMP)  ## simulate graphene and make Figure 1 in runs/demo
	$(BIN)/stemvane demo -o runs/demo --overwrite

test: $(STAMP)  ## run the tests, two at a time; compiled sources are kept, since they start many processes
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal

lint: $(STAMP)  ## style, types and spelling
	$(BIN)/ruff check src tests benchmarks docs
	$(BIN)/ruff format --check src tests benchmarks docs
	$(BIN)/mypy
	$(BIN)/codespell

docs: $(DOCS_STAMP)  ## the documentation site in build/docs; a warning is an error
	rm -rf docs/reference  # pages of names that are public no more would stay
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -b html -W --keep-going docs build/docs

bench: $(STAMP) $(PIECES:%=build/bench/%)  ## the tables of the documentation, 40 minutes a piece at most; again goes on
	$(BIN)/python -m benchmarks.models
	$(BIN)/python -m benchmarks.defects
	$(BIN)/python -m benchmarks.recorded
	$(BIN)/python -m benchmarks.denoise
	$(BIN)/python -m benchmarks.grains
	$(BIN)/python -m benchmarks.network
	$(BIN)/python -m benchmarks.scenes
	$(BIN)/python -m benchmarks.kinds
	$(BIN)/python -m benchmarks.whole --scale
	$(BIN)/python -m benchmarks.viewer

build/bench/%: | $(STAMP)
	$(BIN)/python -m benchmarks.$*
	mkdir -p build/bench
	touch $@

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

$(DOCS_STAMP): $(STAMP) requirements-docs.lock
	$(BIN)/python -m pip install --quiet --requirement requirements-docs.lock
	touch $@

clean:
	rm -rf $(VENV) build runs docs/gallery docs/reference
