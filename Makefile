# `make demo` and `make test` set up everything that they need, in .venv and from Debian's packages.

PYTHON ?= python3
BIN := .venv/bin
KEY := $(shell cat pyproject.toml .ci/setup | sha256sum | cut -c1-16)
SETUP := .venv/.setup-test-$(KEY)
BENCH_SETUP := .venv/.setup-bench-$(KEY)
LLM_SETUP := .venv/.setup-bench-llm-$(KEY)
# Options for the command behind a target: make onnx-suite ARGS='--only softmax'
ARGS ?=

VENV_NEEDS := $(PYTHON)=python3 gcc=gcc /usr/include/stdlib.h=libc6-dev
TEST_NEEDS := aarch64-linux-gnu-gcc=gcc-aarch64-linux-gnu qemu-aarch64=qemu-user \
	/usr/aarch64-linux-gnu/include/stdlib.h=libc6-dev-arm64-cross

export PYTHON
# Engines and test workers share the cores; a pool per library would fight for them.
export OMP_NUM_THREADS ?= 1

.PHONY: help demo test lint bench bench-quant bench-llm accuracy onnx-suite wheel setup
help:
	@echo "make demo        compile a sentence encoder for this CPU, run it, print latency and size"
	@echo "make test        lint, and the whole test suite"
	@echo "make lint        ruff and pyright"
	@echo "make bench       measure against ONNX Runtime and OpenVINO (ARGS='--models minilm')"
	@echo "make bench-quant measure formats of fewer bits, and sparse products (ARGS='--models resnet50')"
	@echo "make bench-llm   measure language models against llama.cpp and torch (ARGS='--formats w8')"
	@echo "make accuracy    what every format costs on real data (ARGS='--formats int8 --models digits')"
	@echo "make onnx-suite  ONNX's own cases, compiled (ARGS='--only softmax')"
	@echo "make wheel       build a wheel and check what is in it"

demo: $(SETUP)
	@$(BIN)/python tests/demo/demo.py $(ARGS)

# Lint and tests both run whatever the other says; the last line is pytest's summary.
test: $(SETUP)
	@.ci/need $(TEST_NEEDS)
	@status=0; \
	$(MAKE) --no-print-directory lint || status=1; \
	$(BIN)/python -m pytest -q -n 2 --dist loadfile $(ARGS) || status=1; \
	exit $$status

lint: $(SETUP)
	@$(BIN)/ruff check --quiet --output-format concise
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/pyright

bench: $(BENCH_SETUP)
	@$(BIN)/python tests/bench/run.py $(ARGS)

bench-quant: $(BENCH_SETUP)
	@$(BIN)/python tests/bench/quant.py $(ARGS)
	@[ -n '$(ARGS)' ] || $(BIN)/python tests/bench/gemv.py
	@[ -n '$(ARGS)' ] || $(BIN)/python tests/bench/sparse.py

bench-llm: $(LLM_SETUP)
	@$(BIN)/python tests/bench/llm_peers.py $(ARGS)

accuracy: $(SETUP)
	@$(BIN)/python tests/accuracy/accuracy.py $(ARGS)

onnx-suite: $(SETUP)
	@$(BIN)/python tests/frontend/onnx/suite.py --engine compiled $(ARGS)

wheel: $(SETUP)
	@$(BIN)/python -m pytest -q tests/test_wheel.py

setup: $(SETUP)

$(SETUP):
	@.ci/need $(VENV_NEEDS)
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || .ci/need /nonexistent=python3-venv
	@.ci/setup test $@

$(BENCH_SETUP): $(SETUP)
	@.ci/setup bench $@

# llama.cpp is compiled for the CPU at hand.
$(LLM_SETUP): $(SETUP)
	@.ci/need g++=g++
	@.ci/setup bench-llm $@
