# make demo   the main job on the example lesson: offline, no key
# make test   every check
# make docs   the documentation as a website, in build/site
# make test-transformers5   what hangs on transformers, with version 5 of it and without optimum
# make test-lowest          imports and main jobs with the lowest versions that the pyproject.toml files allow
# make test-newest          the same with the newest versions there are; before each release
PYTHON ?= python3
PIP = .venv/bin/python -m pip --disable-pip-version-check
INSTALLED = .venv/.installed
INSTALLED5 = .venv-transformers5/.installed
# The builds of onnxruntime send events to their maker unless this is set before they are loaded.
export ORT_DISABLE_TELEMETRY = 1
# Each process would compile all modules anew, and pytest rewrite all tests, if the shell forbade to keep the result.
export PYTHONDONTWRITEBYTECODE =
NODE_INSTALLED = tests/js/node_modules/.installed
CLIENT_TOOLS = clients/js/node_modules/.installed
WEB_ASSETS = export/src/edgedistill_export/web/vendor/index.json
SERVE_NEEDS = click httptools msgspec numpy onnxruntime prometheus-client starlette tokenizers

# Training, conversion and parity on every family of models, the commands, and what other readers make of a bundle.
TESTS5 = \
	tests/edgedistill/student/test_bi_encoder.py \
	tests/edgedistill/student/test_families.py \
	tests/edgedistill/student/test_model.py \
	tests/edgedistill/student/test_training.py \
	tests/export/convert \
	tests/export/quantize/test_recipes.py \
	tests/export/test_bi_encoder.py \
	tests/export/test_bundled_scores.py \
	tests/export/test_checkpoint.py \
	tests/export/test_ecosystem.py \
	tests/export/test_hub.py \
	tests/export/test_transformers_js.py \
	tests/e2e/test_main_job.py

# Every module, and every library that is called directly, in a few minutes.
SMOKE = \
	tests/test_dependencies.py \
	tests/e2e/test_main_job.py \
	tests/edgedistill/agreement \
	tests/edgedistill/api/test_classifier.py \
	tests/edgedistill/project \
	tests/edgedistill/student/test_search.py \
	tests/edgedistill/teacher/test_cache.py \
	tests/edgedistill/teacher/test_faults.py \
	tests/export/test_hub.py \
	tests/serve/bundle \
	tests/serve/client \
	tests/serve/grading \
	tests/serve/server/test_metrics.py \
	tests/serve/server/test_protocols.py

.PHONY: demo docs test test-transformers5 test-lowest test-newest install schemas web chromium generators clean

demo: $(INSTALLED)
	.venv/bin/python examples/praise/demo.py

# Warnings are errors. The variable silences a notice about the successor of the theme.
docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict --quiet
	@echo "open build/site/index.html"

test: $(INSTALLED) $(NODE_INSTALLED) $(WEB_ASSETS) .wheelhouse/.filled chromium generators
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE .venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-transformers5: $(INSTALLED5) $(NODE_INSTALLED)
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE .venv-transformers5/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(TESTS5)

# Warnings of versions that constraints.txt does not name are shown, and are no failure.
test-lowest test-newest: test-%: .venv-%/.installed
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE .venv-$*/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -o filterwarnings=default $(SMOKE)

install: $(INSTALLED) $(NODE_INSTALLED) $(WEB_ASSETS)

web: $(WEB_ASSETS)

# The JSON Schemas of evaluation.json and fidelity.json, from their types; a test fails if they are stale.
schemas: $(INSTALLED)
	.venv/bin/python -c 'from pathlib import Path; from edgedistill.evaluation import write_schemas; write_schemas(Path("docs"))'

# The page's tests drive a real Chromium, and say so where it is missing. Only root can install it.
chromium:
	@command -v chromedriver >/dev/null || [ "$$(id -u)" != 0 ] || \
		{ apt-get update -q && apt-get install -y -q --no-install-recommends chromium chromium-driver; } || true

$(INSTALLED): constraints.txt pyproject.toml export/pyproject.toml serve/pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("EdgeDistill needs Python 3.11 or newer: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(PIP) install -q -c constraints.txt -e "./serve[cpu,otel,parquet,ray,sign,xlsx]" -e "./export[optimum]" -e ".[dev,docs]"
	touch $@

$(INSTALLED5): constraints-transformers5.txt pyproject.toml export/pyproject.toml serve/pyproject.toml
	$(PYTHON) -m venv .venv-transformers5
	.venv-transformers5/bin/python -m pip --disable-pip-version-check install -q -c constraints-transformers5.txt -e "./serve[cpu,otel,parquet,sign]" -e ./export -e ".[dev]"
	touch $@

.venv-lowest/.installed .venv-newest/.installed: .venv-%/.installed: .ci/install-resolved pyproject.toml export/pyproject.toml serve/pyproject.toml | $(INSTALLED)
	PYTHON=$(PYTHON) .ci/install-resolved $*
	touch $@

# transformers.js, for the tests that open a bundle as a web page would.
$(NODE_INSTALLED): tests/js/package-lock.json
	@command -v npm >/dev/null || { echo "The tests open bundles in Node: install Node 20 or newer with npm"; exit 1; }
	npm ci --prefix tests/js --ignore-scripts --no-audit --no-fund
	touch $@

# What makes clients from the OpenAPI document, and checks the types of the JavaScript client. openapi-python-client wants an
# older typer than edgedistill, and therefore has an environment of its own.
generators: $(CLIENT_TOOLS) .venv-generators/.installed

$(CLIENT_TOOLS): clients/js/package-lock.json
	npm ci --prefix clients/js --ignore-scripts --no-audit --no-fund
	touch $@

.venv-generators/.installed: constraints-generators.txt
	$(PYTHON) -m venv .venv-generators
	.venv-generators/bin/python -m pip --disable-pip-version-check install -q -c constraints-generators.txt openapi-python-client
	touch $@

# onnxruntime-web and the tokenizer, for pages that score in a browser.
$(WEB_ASSETS): export/package-lock.json export/hatch_build.py | $(INSTALLED)
	@command -v npm >/dev/null || { echo "The browser page needs npm packages: install Node 20 or newer with npm"; exit 1; }
	.venv/bin/python export/hatch_build.py
	touch $@

# What edgedistill-serve needs, for the test that installs it alone without a network.
.wheelhouse/.filled: constraints.txt serve/pyproject.toml $(INSTALLED)
	$(PIP) download -q -d .wheelhouse -c constraints.txt $(SERVE_NEEDS)
	touch $@

clean:
	rm -rf .venv .venv-transformers5 .venv-lowest .venv-newest .venv-generators .wheelhouse tests/js/node_modules clients/js/node_modules export/node_modules export/src/edgedistill_export/web/vendor examples/*/runs examples/praise/teacher-cache
