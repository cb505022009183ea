PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp
DOCS_STAMP := $(VENV)/.stamp-docs

.DEFAULT_GOAL := help
.PHONY: help demo test coverage lint type smoke ddp bench bolts judges results weights schema docs format clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -e '.[dev]'
	@touch $@

$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install -e '.[docs]'
	@touch $@

demo: $(STAMP) ## train DTN on the embedded digits, test it, say where the pictures and numbers are
	$(BIN)/xdomain fit --config dtn.yaml
	$(BIN)/xdomain test --config dtn.yaml --ckpt_path last
	@echo "The pictures are in the run folder named above, the numbers in its results.json."

# One thread for each of the two workers: more would wait for each other.
test: $(STAMP) ## run all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal --durations=10

coverage: $(STAMP) ## run all tests and fail if they cover less than 90 % of the package
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal --cov --cov-report=term-missing:skip-covered --cov-fail-under=90

lint: $(STAMP) ## check style and formatting
	$(BIN)/ruff check
	$(BIN)/ruff format --check

type: $(STAMP) ## check types
	$(BIN)/mypy xdomain

smoke: $(STAMP) ## run every recipe for a few steps
	$(BIN)/python -m pytest tests/smoke

ddp: $(STAMP) ## run the tests that start several processes
	$(BIN)/python -m pytest tests -k ddp

bench: $(STAMP) ## measure overhead, sharing, schedules, resuming, drawing, decoding, checking, corrupting, pAdaIN
	$(BIN)/python benchmarks/single.py
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/sharing.py
	$(BIN)/python benchmarks/schedules.py
	$(BIN)/python benchmarks/content.py
	$(BIN)/python benchmarks/conv3d.py
	$(BIN)/python benchmarks/resume.py
	$(BIN)/python benchmarks/kills.py
	$(BIN)/python benchmarks/requeue.py
	$(BIN)/python benchmarks/avatars.py
	$(BIN)/python benchmarks/decode.py
	$(BIN)/python benchmarks/check.py
	$(BIN)/python benchmarks/corruptions.py
	$(BIN)/python benchmarks/padain.py

# Its pins ask for Lightning 1, and what it needs to be imported is there already.
bolts: $(STAMP) ## install lightning-bolts for its pix2pix networks, see docs/bolts.md
	$(BIN)/python -m pip install --no-deps lightning-bolts==0.7.0

judges: $(STAMP) ## install the judges from outside, see docs/judges.md
	$(BIN)/python -m pip install dlib-bin face-recognition-models

results: $(STAMP) ## write the tables of README.md and docs/ from the files in results/
	$(BIN)/python -m xdomain.commands.table

weights: $(STAMP) ## train the helper networks that come with the package, some minutes
	$(BIN)/xdomain pack --output xdomain/weights/helpers --helper street_classifier handwritten_classifier avatar_attributes

schema: $(STAMP) ## write the schema of recipes for editors
	$(BIN)/xdomain schema --output configs/recipe.schema.json

docs: $(DOCS_STAMP) ## build the documentation into site/
	$(BIN)/mkdocs build --strict

format: $(STAMP) ## repair style and formatting where a tool can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## remove caches and build artefacts; keeps .venv, runs and results
	rm -rf build dist site htmlcov .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache
	find . -path './$(VENV)' -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +
