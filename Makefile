# make demo   the main job on the example lesson: offline, no key
# make test   every check
PYTHON ?= python3
PIP = .venv/bin/python -m pip --disable-pip-version-check
INSTALLED = .venv/.installed
SERVE_NEEDS = click httptools msgspec numpy onnxruntime prometheus-client starlette tokenizers uvicorn

.PHONY: demo test install chromium clean

demo: $(INSTALLED)
	.venv/bin/python examples/praise/demo.py

test: $(INSTALLED) .wheelhouse/.filled chromium
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/python -m pytest

install: $(INSTALLED)

# The page's tests drive a real Chromium, and say so where it is missing. Only root can install it.
chromium:
	@command -v chromedriver >/dev/null || [ "$$(id -u)" != 0 ] || \
		{ apt-get update -q && apt-get install -y -q --no-install-recommends chromium chromium-driver; } || true

$(INSTALLED): constraints.txt pyproject.toml export/pyproject.toml serve/pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("EdgeDistill needs Python 3.11 or newer: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(PIP) install -q -c constraints.txt -e "./serve[cpu,parquet]" -e ./export -e ".[dev]"
	touch $@

# What edgedistill-serve needs, for the test that installs it alone without a network.
.wheelhouse/.filled: constraints.txt serve/pyproject.toml $(INSTALLED)
	$(PIP) download -q -d .wheelhouse -c constraints.txt $(SERVE_NEEDS)
	touch $@

clean:
	rm -rf .venv .wheelhouse examples/praise/runs examples/praise/teacher-cache
