VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
STAMP := $(VENV)/.installed
DOCS_STAMP := $(VENV)/.docs_installed

.PHONY: demo test lint docs bench clean

demo: $(STAMP)  ## simulate graphene and make Figure 1 in runs/demo
	$(BIN)/stemvane demo -o runs/demo --overwrite

test: $(STAMP)  ## run the tests, two at a time
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal

lint: $(STAMP)  ## style, types and spelling
	$(BIN)/ruff check src tests benchmarks docs
	$(BIN)/ruff format --check src tests benchmarks docs
	$(BIN)/mypy
	$(BIN)/codespell

docs: $(DOCS_STAMP)  ## the documentation site in build/docs; a warning is an error
	rm -rf docs/reference  # pages of names that are public no more would stay
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -b html -W --keep-going docs build/docs

bench: $(STAMP)  ## the tables of the README; takes about fifteen hours
	$(BIN)/python benchmarks/simulate.py
	$(BIN)/python benchmarks/slices.py
	$(BIN)/python benchmarks/seeds.py
	$(BIN)/python benchmarks/measure.py
	$(BIN)/python benchmarks/step.py
	$(BIN)/python benchmarks/models.py
	$(BIN)/python benchmarks/defects.py

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
