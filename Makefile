# `make demo` and `make test` do all of their own set-up on a fresh machine; the second time they start at once.

# Another Python: make demo PYTHON=/path/to/python3
PYTHON ?=
# One that uv does not find: make test-versions NEWEST_PYTHON=/path/to/python3.14
NEWEST_PYTHON ?=
# Elsewhere, where this folder may not be written: make demo VENV=~/duplex/venv OUT=~/duplex/out
VENV ?= .venv
OUT ?= out
BIN = $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
IMAGE ?= duplex
PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# A worker has a core: what it computes, and the commands it starts, would only wait for each other on more threads.
# The commands that tests start are many, and each would compile the package anew where nothing may be kept.
# Files in their own order: those with few tests, which would be put last, are the longest, and one worker would have them.
PYTEST = PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help demo talk serve test test-slow test-versions check audit dist release-check publish image push-image surface codec page docs constraints clean

help: ## Show what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## Ask the built-in model a spoken question, and hold a conversation with it; its voice in files
	$(BIN)/duplex process examples/question.wav examples/conversation.wav --out $(OUT)/demo
	$(BIN)/duplex plot $(OUT)/demo/conversation
	@echo
	@echo "The agent's voice is in $(OUT)/demo/*/agent.wav, both voices in dialogue.wav; listen to them."

test: check docs ## Run check, docs, and every test that is not slow
	$(PYTEST) -m "not slow"

test-slow: $(VENV)/.dev ## Run the slow tests: trainings, kernels in an interpreter, whole references
	$(PYTEST) -m "slow and not alone"
	$(PYTEST) -n 0 -m alone

test-versions: $(VENV)/.made ## Try the lowest and the newest versions of every dependency, in environments of their own (15 GB)
	$(BIN)/python tools/check_versions.py --folder $(OUT)/versions $(if $(NEWEST_PYTHON),--newest-python $(NEWEST_PYTHON))

check: $(VENV)/.dev ## Formatting, lint, strict types, import layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(BIN)/zizmor --offline --quiet --no-progress .github/workflows

dist: $(VENV)/.dev ## Build the wheel and the sdist and their bill of materials into dist/, the same bytes from the same commit
	rm -rf dist
	SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct)} $(BIN)/python -m build --no-isolation --outdir dist
	$(BIN)/python tools/write_sbom.py --out dist/sbom.cdx.json
	$(BIN)/twine check --strict dist/*.whl dist/*.tar.gz

audit: $(VENV)/.dev ## Look for known faults in what constraints.txt pins; what the index cannot tell fails, too
	$(BIN)/pip-audit --strict --disable-pip --no-deps --requirement constraints.txt --progress-spinner off

release-check: $(VENV)/.dev ## Hold the version, the changelog and dist/ against a tag: make release-check TAG=v1.2.3
	$(BIN)/python tools/check_release.py $(TAG)

publish: $(VENV)/.dev ## Upload dist/ to the package index, as who the index trusts
	$(BIN)/twine upload --non-interactive dist/*.whl dist/*.tar.gz

image: ## Build the container image (needs docker)
	docker build --file deploy/Dockerfile --tag $(IMAGE) .

push-image: image ## Push it to its registry; its digest is in dist/image.digest
	docker push $(IMAGE)
	mkdir -p dist
	docker inspect --format '{{index .RepoDigests 0}}' $(IMAGE) | sed 's/.*@//' > dist/image.digest

surface: $(VENV)/.dev ## Write down what is public, for the test that compares it: on a release, and with a break
	$(BIN)/python tools/surface.py --write

codec: $(VENV)/.dev ## Train a small codec, into out/codec (hours on two cores)
	$(BIN)/duplex train data --out $(OUT)/corpus
	$(BIN)/duplex train codec --data $(OUT)/corpus --out $(OUT)/codec

serve: $(VENV)/.demo ## Serve the built-in model: a page to talk to it, at http://127.0.0.1:8998
	$(BIN)/duplex serve

talk: $(VENV)/.talk ## Talk to the built-in model by microphone and loudspeaker, in this terminal
	$(BIN)/duplex talk

page: ## Build the web page anew from web/ (needs node)
	cd web && npm ci && npm run check && npm run build

docs: $(VENV)/.dev ## Build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

constraints: $(VENV)/.made ## Resolve constraints.txt anew, for every system and Python at once
	$(BIN)/python -m uv pip compile pyproject.toml constraints.in --all-extras --group dev --group benchmark --universal \
		--python-version 3.11 --fork-strategy fewest --no-annotate --upgrade --quiet --output-file constraints.txt \
		--custom-compile-command "make constraints"

clean: ## Remove everything that was made here, the virtual environment included
	rm -rf $(VENV) site out dist web/node_modules .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is newer than what it was made from, so that set-up runs once and after a change.
$(VENV)/.made:
	@$(find_python); \
	$(call debian,"$$python" -c "import ensurepip",$$("$$python" -c "import sys; print('python%d.%d-venv' % sys.version_info[:2])")); \
	"$$python" -m venv $(VENV)
	$(PIP_INSTALL) --upgrade pip uv
	@touch $@

$(VENV)/.demo: $(VENV)/.made pyproject.toml constraints.txt
	@echo "Installing duplex and what it needs into $(VENV); PyTorch is large, so the first time takes a while."
	@$(call debian,ldconfig -p | grep -q libopus.so.0,libopus0)
	$(BIN)/python tools/install_torch.py
	$(PIP_INSTALL) --build-constraint constraints.txt -e '.[torch,plot,serve]'
	@touch $@

$(VENV)/.talk: $(VENV)/.demo pyproject.toml constraints.txt
	@$(call debian,ldconfig -p | grep -q libportaudio.so.2,libportaudio2)
	@$(call debian,ls /usr/lib/*/alsa-lib/libasound_module_pcm_pulse.so,libasound2-plugins)
	$(PIP_INSTALL) --build-constraint constraints.txt -e '.[talk]'
	@touch $@

$(VENV)/.dev: $(VENV)/.talk pyproject.toml constraints.txt
	@$(call debian,command -v flite,flite)
	@$(call debian,command -v espeak-ng,espeak-ng)
	@$(call debian,command -v chromium,chromium)
	@$(call debian,{ command -v firefox-esr || command -v firefox; },firefox-esr)
	@$(call debian,command -v nginx,nginx)
	@$(call debian,command -v promtool,prometheus)
	@$(call debian,command -v caddy,caddy)
	@$(call debian,command -v redis-server,redis-server)
	@$(call debian,command -v kubectl,kubernetes-client)
	@$(call debian,command -v Xvfb,xvfb)
	@$(call debian,command -v pulseaudio,pulseaudio)
	@$(call debian,command -v pactl,pulseaudio-utils)
	$(PIP_INSTALL) --build-constraint constraints.txt -e '.[train,mlx,gguf,tables,ray,redis,otel]' --group dev
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
	if [ "$$(id -u)" = 0 ]; then sudo=; else sudo="sudo -n"; fi; \
	if ! command -v apt-get >/dev/null || ! $$sudo true 2>/dev/null; then \
		echo "note: $$package is not here, and this user cannot install it; going on without it" >&2; \
		echo "      (Debian, as root: apt-get install $$package)" >&2; \
	elif ! { $$sudo apt-get update -qq && $$sudo apt-get install -y -qq --no-install-recommends $$package; } </dev/null >/dev/null; then \
		echo "note: apt-get could not install $$package; going on without it" >&2; \
	fi; \
fi
endef
