# Two commands for newcomers: `make quickstart` and `make test`. Everything lands in .venv; nothing else is touched.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
TORCH := $(shell sed -n 's/^torch==//p' constraints.txt)
# Where an index of CPU-only torch builds is needed and pip does not know one: make TORCH_INDEX=URL ...
TORCH_INDEX ?=
SEED ?= 0

.PHONY: quickstart test test-cluster drill bench-cluster check format fuzz dist release-check audit bench-packing bench-pruners bench-quickstart bench-throughput bench-gpu clean

quickstart: $(VENV)/.runtime
	$(BIN)/sweeper run search_spaces/quickstart.yaml --set train.seed=$(SEED)

# Two at a time, a file each: sweeps, servers and gangs wait more than they work. The longest files come first.
TEST_WORKERS ?= 2
test: check
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder

# Several Ray nodes on this machine, and faults: minutes.
# Ray reads its token once in a process: the tests over nodes have one of their own.
NODES := tests/cluster/test_cluster_nodes.py
test-cluster: $(VENV)/.dev
	$(BIN)/python -m pytest -m 'cluster or long' --ignore=$(NODES)
	$(BIN)/python -m pytest -m cluster $(NODES)

# Random kills of everything over many short sweeps, then over real training: about an hour.
drill: $(VENV)/.dev
	$(BIN)/python -m benchmarks.drill --kills 100 --seed 0
	$(BIN)/python -m benchmarks.drill --kills 20 --seed 0 --real

bench-cluster: $(VENV)/.dev
	$(BIN)/python -m benchmarks.overhead

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Coverage-guided, 25,000 inputs for each of the four parsers.
fuzz: $(VENV)/.fuzz
	$(BIN)/python tests/fuzz

dist: $(VENV)/.release
	rm -rf dist build
	$(BIN)/python -m build -q

# Installs the wheel and the sdist, each into an environment of its own, and runs the packaged quickstart from both.
release-check: dist
	$(BIN)/python tests/deploy dist

# Known weaknesses of the pinned versions, as PyPI itself tells them. Where a mirror answers that tells none, pip-audit by
# itself would find nothing and be content.
audit: $(VENV)/.release
	$(BIN)/pip-audit -r constraints.txt --disable-pip --no-deps --strict --progress-spinner off \
	|| { echo "Not audited, or weaknesses found: see above. The answers have to come from PyPI itself."; exit 1; }

# The recorded grids are not part of the project: make bench-pruners CURVES=FOLDER
# Hours; stopped and called again, it goes on where it was.
bench-pruners: $(VENV)/.dev
	mkdir -p build
	$(BIN)/python -m benchmarks.pruners --curves $(CURVES) --json build/pruners.jsonl --plot build/pruners.svg

bench-packing: $(VENV)/.runtime
	$(BIN)/python -m benchmarks.packing --data $(DATA)
	$(BIN)/python -m benchmarks.packing --data $(DATA) --wait

bench-quickstart: $(VENV)/.runtime
	$(BIN)/python benchmarks/quickstart.py --seeds 0 1 2

# DATA=CHATS.jsonl trains on your own chats; without it synthetic ones of like lengths are made.
bench-throughput: $(VENV)/.bench
	$(BIN)/python -m benchmarks.throughput $(if $(DATA),--data $(DATA))

# One NVIDIA GPU of 139 GiB for the largest shape: 28 GB of weights in fp32, as much again for gradients, twice for AdamW.
bench-gpu: $(VENV)/.bench
	for shape in qwen-0.5b qwen-1.5b qwen-7b; do \
	  $(BIN)/python -m benchmarks.throughput --device cuda --precision bf16 --shape $$shape --batch-size 256 \
	    --max-tokens 16384 --warmup-steps 3 --steps 10 $(if $(DATA),--data $(DATA)) || exit 1; \
	done

clean:
	rm -rf $(VENV) build dist *.egg-info

# Without an NVIDIA driver the CPU build of torch is taken: 0.2 GB instead of several.
$(VENV)/.torch: constraints.txt
	$(PYTHON) -m venv $(VENV)
	@if command -v nvidia-smi >/dev/null && nvidia-smi >/dev/null 2>&1; then \
	  $(PIP) install -q -c constraints.txt torch==$(TORCH); \
	else \
	  $(PIP) install -q $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -c constraints.txt torch==$(TORCH)+cpu \
	  || { echo "No CPU-only build of torch $(TORCH) is known to pip (set TORCH_INDEX): taking the default build."; \
	       $(PIP) install -q -c constraints.txt torch==$(TORCH); }; \
	fi
	@touch $@

$(VENV)/.runtime: $(VENV)/.torch pyproject.toml
	$(PIP) install -q -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime
	$(PIP) install -q -c constraints.txt -e '.[dev,bench,deepspeed,deploy,lora,postgres,server]'
	@touch $@

$(VENV)/.fuzz: $(VENV)/.runtime
	$(PIP) install -q -c constraints.txt -e '.[fuzz]'
	@touch $@

$(VENV)/.release: $(VENV)/.runtime
	$(PIP) install -q -c constraints.txt -e '.[release]'
	@touch $@

$(VENV)/.bench: $(VENV)/.runtime
	$(PIP) install -q -c constraints.txt -e '.[bench]'
	@touch $@
