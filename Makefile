# `make demo` and `make test` do all of their own set-up on a fresh machine; the second time they start at once.

VENV := .venv
BIN := $(VENV)/bin
# Another Python: make demo PYTHON=/path/to/python3
PYTHON ?=
PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo serve test check codec page docs clean

help: ## Show what there is to make
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## Ask the built-in model a spoken question, and hold a conversation with it; its voice in files
	$(BIN)/duplex process examples/question.wav examples/conversation.wav --out out/demo
	$(BIN)/duplex plot out/demo/conversation
	@echo
	@echo "The agent's voice is in out/demo/*/agent.wav, both voices in dialogue.wav; listen to them."

test: check docs ## Run everything that CI runs: check, docs, all tests
	$(BIN)/python -m pytest -n auto --dist loadfile

check: $(VENV)/.dev ## Formatting, lint, strict types, import layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

codec: $(VENV)/.dev ## Train a small codec, into out/codec (hours on two cores)
	$(BIN)/duplex train data --out out/corpus
	$(BIN)/duplex train codec --data out/corpus --out out/codec

serve: $(VENV)/.demo ## Serve the built-in model: a page to talk to it, at http://127.0.0.1:8998
	$(BIN)/duplex serve

page: ## Build the web page anew from web/ (needs node)
	cd web && npm ci && npm run check && npm run build

docs: $(VENV)/.dev ## Build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean: ## Remove everything that was made here, the virtual environment included
	rm -rf $(VENV) site out dist web/node_modules .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is newer than what it was made from, so that set-up runs once and after a change.
$(VENV)/.made:
	@$(find_python); \
	$(call debian,"$$python" -c "import ensurepip",$$("$$python" -c "import sys; print('python%d.%d-venv' % sys.version_info[:2])")); \
	"$$python" -m venv $(VENV)
	@touch $@

$(VENV)/.demo: $(VENV)/.made pyproject.toml constraints.txt
	@echo "Installing duplex and what it needs into $(VENV); PyTorch is large, so the first time takes a while."
	$(PIP_INSTALL) --upgrade pip
	@$(call debian,ldconfig -p | grep -q libopus.so.0,libopus0)
	$(PIP_INSTALL) --build-constraint constraints.txt -e '.[plot,serve]'
	@touch $@

$(VENV)/.dev: $(VENV)/.demo pyproject.toml constraints.txt
	@$(call debian,command -v flite,flite)
	@$(call debian,command -v espeak-ng,espeak-ng)
	@$(call debian,command -v chromium,chromium)
	$(PIP_INSTALL) --build-constraint constraints.txt -e '.[train,mlx]' --group dev
	@touch $@

define find_python
python=; \
for candidate in $(PYTHON) $(if $(PYTHON),,python3.11 python3 python3.12 python3.13 python3.14); do \
	if "$$candidate" -c "import sys; sys.exit(sys.version_info < (3, 11))" 2>/dev/null; then python=$$candidate; break; fi; \
done; \
if [ -z "$$python" ]; then \
	echo "duplex needs Python 3.11 or newer and found none; install it (Debian 12: apt-get install python3 python3-venv)," >&2; \
	echo "or say where it is: make PYTHON=/path/to/python3" >&2; \
	exit 1; \
fi
endef

# $(call debian,TEST,PACKAGE): unless TEST succeeds, install a Debian package, as far as that is possible here.
define debian
if ! $(1) >/dev/null 2>&1; then \
	package=$(2); \
	if [ "$$(id -u)" = 0 ]; then sudo=; else sudo=sudo; fi; \
	if ! command -v apt-get >/dev/null || ! command -v $${sudo:-true} >/dev/null; then \
		echo "note: $$package is not here, and cannot be installed by apt-get; going on without it" >&2; \
	elif ! { $$sudo apt-get update -qq && $$sudo apt-get install -y -qq --no-install-recommends $$package; } </dev/null >/dev/null; then \
		echo "note: apt-get could not install $$package; going on without it" >&2; \
	fi; \
fi
endef
