VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
STAMP := $(VENV)/.installed

.PHONY: demo test lint bench clean

demo: $(STAMP)  ## simulate graphene and make Figure 1 in runs/demo
	$(BIN)/stemvane demo -o runs/demo --overwrite

test: $(STAMP)  ## run the tests, two at a time
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal

lint: $(STAMP)  ## style and types
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy

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

clean:
	rm -rf $(VENV) build runs
