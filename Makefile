# The front door. Everything else: .venv/bin/sirl --help
VENV ?= .venv
TARGET ?= $(shell command -v nvidia-smi >/dev/null 2>&1 && echo cuda || echo cpu)
BIN := $(VENV)/bin

.PHONY: setup demo serve real test test-all test-fast interop check science doors bench-signals bench-guard bench-learner bench-real bench-sense docs matrix lock clean

setup:  ## install by the lock into $(VENV); does nothing when up to date
	@scripts/install $(TARGET) $(VENV)

demo: setup  ## serve, watch, learn, swap: the main job, in about six minutes
	@$(BIN)/sirl demo $(ARGS)

serve: setup  ## leave the endpoint running on http://127.0.0.1:8000 with the learner beside it
	@$(BIN)/sirl serve --learn $(ARGS)

real: setup  ## fetch Qwen2.5-Coder-0.5B-Instruct and serve it; with SUITE=DIR calibrate it first, and learn beside it
	@scripts/real $(ARGS)

test: setup  ## what users rely on, against the real engine (a quarter of an hour on two cores)
	@scripts/test $(ARGS)

test-all: setup  ## the nightly tests as well: the whole demo, every kill point, the image (24 minutes in all)
	@scripts/test -m "not interop" $(ARGS)

test-fast: setup  ## the tests that need no engine
	@scripts/test -m "not engine and not slow and not nightly and not interop" $(ARGS)

interop: setup  ## used by software we did not write, beside plain vLLM, on two workers (fifteen minutes; first time thirty)
	@$(BIN)/pytest -m interop $(ARGS)

check: setup  ## linters, types, known vulnerabilities
	@scripts/check

science: setup  ## every table of docs/evidence/science.md; goes on where it was stopped (hours)
	@$(BIN)/pytest -q -m interop tests/interop/test_trl.py
	@$(BIN)/python -m benchmarks.science $(ARGS)

doors: setup  ## every route and field, tried with a prompt whose answer must not get out (about ten minutes)
	@$(BIN)/python -m benchmarks.doors $(ARGS)

bench-signals: setup  ## what each intrinsic signal is worth (docs/evidence/signals.md; about ten minutes)
	@$(BIN)/python -m benchmarks.signals $(ARGS)

bench-guard: setup  ## what the guard costs, beside plain vLLM (about half an hour)
	@$(BIN)/python -m benchmarks.guard $(ARGS)

bench-learner: setup  ## what learning costs, beside TRL and beside a serving load (about forty minutes)
	@$(BIN)/pytest -q -m interop tests/interop/test_trl.py
	@$(BIN)/python -m benchmarks.learner
	@$(BIN)/python -m benchmarks.refresh

bench-real: setup  ## what a real model costs here; PROMPTS is a folder of collected prompts (an hour and more)
	@$(BIN)/pytest -q -m interop tests/interop/test_trl.py
	@$(BIN)/sirl fetch qwen2.5-coder-0.5b-instruct
	@for part in story cost; do $(BIN)/python -m benchmarks.real_$$part --prompts $(PROMPTS) \
	  --model "$$($(BIN)/sirl fetch qwen2.5-coder-0.5b-instruct | tail -n 1)" $(ARGS) || exit; done

bench-sense: setup  ## what the model knows of harm beside what it says; PROMPTS is a folder of collected prompts (two hours)
	@$(BIN)/sirl fetch qwen2.5-coder-0.5b-instruct
	@model="$$($(BIN)/sirl fetch qwen2.5-coder-0.5b-instruct | tail -n 1)"; \
	  for stage in streams answers asked first; do \
	    $(BIN)/python -m benchmarks.sense_states --model "$$model" --prompts $(PROMPTS) --stage $$stage || exit 1; done; \
	  $(BIN)/python -m benchmarks.sense --model "$$model" --prompts $(PROMPTS) $(ARGS)

docs: setup  ## write the generated pages anew, and build the site into build/site, without a network
	@$(BIN)/python -m docs.reference
	@$(BIN)/python -m docs.pictures
	@$(BIN)/python -m docs.defence
	@$(BIN)/python -m docs.course
	@$(BIN)/python -m docs.gpu
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict && echo "build/site/index.html"

matrix:  ## the tests that need neither vLLM nor torch, under Python 3.11 to 3.13 (needs uv)
	@scripts/matrix $(ARGS)

lock:  ## resolve the dependencies anew (needs uv)
	@scripts/lock

clean:
	rm -rf $(VENV) .cache .pytest_cache .ruff_cache .mypy_cache build dist
