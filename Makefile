# Every target does its own set-up; a second call goes straight to work.
VENV := .venv
MODERN := .venv-modern
BENCH := .venv-benchmarks
SHELL := /bin/bash

# Spark's Python workers must be the environment's own.
in_venv = PATH="$(CURDIR)/$(1)/bin:$$PATH" PYSPARK_PYTHON="$(CURDIR)/$(1)/bin/python" VIRTUAL_ENV="$(CURDIR)/$(1)"

.PHONY: setup setup-modern setup-benchmarks demo test test-fast test-slow test-modern lint types mlflow clean

setup:
	@requirements/install.sh $(VENV) requirements/lock.txt

setup-modern:
	@requirements/install.sh $(MODERN) requirements/modern.txt

## The peers that benchmarks/ compares with, beside the default set: .venv-benchmarks/bin/python benchmarks/NAME.py
setup-benchmarks:
	@requirements/install.sh $(BENCH) requirements/lock.txt requirements/benchmarks.txt

## The main job: photos -> dataset -> training -> registry -> enlarged photos. IMAGES=dir HELD_OUT=dir take your own.
demo: setup
	@$(call in_venv,$(VENV)) python jobs/demo.py $(if $(IMAGES),--images "$(IMAGES)") $(if $(HELD_OUT),--held-out "$(HELD_OUT)")

# Several processes test at once, and threads that wait for each other would burn the cores.
one_thread = OMP_NUM_THREADS=1

## Everything but the slow tests.
test: setup
	@$(call in_venv,$(VENV)) $(one_thread) python -m pytest -m "not slow" -n 3 --dist loadfile --no-loadscope-reorder

## What to run after every edit: no Spark cluster, no long training.
test-fast: setup
	@$(call in_venv,$(VENV)) python -m pytest -m "not slow and not cluster" --ignore tests/end_to_end -x -q

test-slow: setup
	@$(call in_venv,$(VENV)) python -m pytest -m slow

## The same tests on current releases, without stock Petastorm.
test-modern: setup-modern
	@$(call in_venv,$(MODERN)) $(one_thread) python -m pytest -m "not slow" -n 3 --dist loadfile --no-loadscope-reorder

lint: setup
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .

types: setup
	@$(VENV)/bin/mypy

mlflow: setup
	@$(VENV)/bin/mlflow ui --backend-store-uri "$${MLFLOW_TRACKING_URI:-sqlite:///mlflow.db}"

clean:
	rm -rf $(VENV) $(MODERN) $(BENCH) demo-output .pytest_cache .mypy_cache .ruff_cache
