# Every target shares one environment, .venv, made on first need.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# What .venv gets: the versions of the lock; with LOCK= (nothing) the newest ones.
LOCK ?= requirements.lock
# How much `make torture` does; .ci/run asks for less.
TORTURE ?= --kills 100 --signals 40 --bit-flips 20 --full-disks 10
# Tests run in this many processes of one thread each: threads beside busy processes cost more than they give.
TEST_PROCESSES ?= 2
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help install test test-all test-lowest test-slurm test-gpu lock lint format docs demo torture clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(READY)  ## make .venv (done by the other targets when it is missing)

$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "error: Python >= 3.10 is needed, $$($(PYTHON) --version) found. Name another: make PYTHON=python3.12 ..." >&2; exit 2; }
	@echo "Making .venv: PyTorch and its CUDA libraries are about 3 GB to download and 6 GB on disk, a few minutes."
	@$(PYTHON) -m venv .venv || { echo "error: $(PYTHON) has no venv module (Debian and Ubuntu: apt-get install python3-venv)" >&2; exit 2; }
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(if $(LOCK),$(BIN)/python -m pip install --progress-bar on --require-hashes --requirement $(LOCK))
	$(BIN)/python -m pip install --progress-bar on --editable '.[dev]'
	@touch $(READY)

test: $(READY)  ## lint, types and the everyday tests: minutes; what is left out is counted with its reason
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@echo "$(BIN)/mypy (beside the tests, its output follows theirs)"; report=$$(mktemp); \
	$(BIN)/mypy >$$report 2>&1 & types=$$!; trap "kill $$types 2>/dev/null; rm -f $$report" EXIT; \
	$(PYTEST) -m "not slow"; tests=$$?; \
	wait $$types; typed=$$?; echo "mypy:"; cat $$report; \
	if [ $$tests -ne 0 ]; then exit $$tests; fi; exit $$typed

test-all: $(READY)  ## the tests that `make test` leaves out as slow: with it, all that this machine can run
	$(PYTEST) -m slow

# Timm is left out: it brings a plugin of pytest that old packages do not suit.
LOWEST := .venv-lowest
LOWEST_TESTS ?= tests/pretrain/engine/test_step.py tests/pretrain/engine/test_profiler.py tests/pretrain/config \
    tests/transfer/config tests/transfer/conversion tests/transfer/weights/test_file_form.py \
    tests/transfer/engines/torchvision/modeling tests/transfer/data/cityscapes tests/tools/exports

test-lowest: $(READY)  ## the main parts with the lowest versions that pyproject.toml promises, in .venv-lowest: 7 GB
	$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python $(LOWEST)
	$(BIN)/uv pip compile --quiet --no-header --no-annotate --resolution lowest-direct --python $(LOWEST)/bin/python \
	    --extra coco --extra densepose --extra tensorboard --extra yolo pyproject.toml --output-file $(LOWEST)/lowest.txt
	$(BIN)/uv pip install --quiet --cache-dir $(LOWEST)/cache --python $(LOWEST)/bin/python \
	    --requirement $(LOWEST)/lowest.txt hypothesis pytest pytest-timeout pytest-xdist
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest -n $(TEST_PROCESSES) --dist loadfile -m "not slow" $(LOWEST_TESTS)

lock: $(READY)  ## write requirements.lock anew; what it has stays, with UPGRADE=1 all get the newest versions
	UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet pyproject.toml --extra dev --universal \
	    --python-version 3.10 --generate-hashes --no-annotate $(if $(UPGRADE),--upgrade) --output-file requirements.lock

test-slurm: $(READY)  ## tests on a real SLURM of two nodes here (root; installs Debian's packages, long)
	$(BIN)/python -m tests.slurm.packages
	MOCO_SLURM=1 $(PYTEST) tests/slurm --timeout 1800

# Not from .venv by need: on a machine without a network it takes the Python that is there, or PYTHON=...
DEVICE ?= cuda
GPU_PYTHON = $(if $(filter command environment,$(firstword $(origin PYTHON))),$(PYTHON),$(firstword $(wildcard $(BIN)/python) $(PYTHON)))
test-gpu:  ## what only a GPU can show, in nine minutes, without a network; DEVICE=cpu: the same code at tiny size
	PYTHONUNBUFFERED=1 PYTHONPATH=.:tools:$$PYTHONPATH $(GPU_PYTHON) -m tests.gpu --device $(DEVICE) $(if $(OUTPUT),--output $(OUTPUT))

lint: $(READY)  ## ruff and mypy alone
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)  ## let ruff rewrite the layout of the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY)  ## the site of docs/, in output/site; stops at a link, an anchor or a name that is not there
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	@echo "output/site/index.html (with search: $(BIN)/python -m http.server --directory output/site)"

demo: $(READY)  ## the whole job on made-up scenes, in output/demo; SEED=1: with other ones, in output/demo_seed_1
	$(BIN)/python tools/demo.py$(if $(SEED), --seed $(SEED))

torture: $(READY)  ## kill pretraining, fill its disk, damage its checkpoints; compare bit by bit (long)
	@if [ -e output/torture ]; then echo "error: output/torture is there; remove it first" >&2; exit 2; fi
	$(BIN)/python tools/torture.py --output output/torture $(TORTURE)

clean:  ## remove .venv, caches and output/
	rm -rf .venv .venv-lowest output build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
