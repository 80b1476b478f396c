# make demo   set up, run the built-in phantom study, end with the path of the report
# make test   set up, run the tests
# make test-browser   the report in a headless Chromium (apt-get install chromium); REPORT=page.html opens that one; pictures in build/browser
# make viewer   build the report's viewer anew (Node and npm)
# make audit   look the installed packages up in the public list of vulnerabilities (needs the network)
# make test-slow   the tests that take minutes each
PYTHON ?= python3
CORES  ?= $(shell getconf _NPROCESSORS_ONLN)
VENV   := .venv
BIN    := $(CURDIR)/$(VENV)/bin

.PHONY: demo test test-slow test-browser viewer audit setup clean
.DELETE_ON_ERROR:

demo: $(VENV)/all.done
	@PATH="$(BIN):$$PATH" snakemake --cores $(CORES)
	@echo "The report: $(CURDIR)/results/report.html"

test: $(VENV)/test.done
	@PATH="$(BIN):$$PATH" python -m pytest -n 2 --dist loadgroup -m "not slow and not browser"

test-slow: $(VENV)/test.done
	@PATH="$(BIN):$$PATH" python -m pytest -m slow

test-browser: $(VENV)/test.done
	@PATH="$(BIN):$$PATH" ELR_MRI_REPORT="$(REPORT)" python -m pytest -m browser tests/findings

viewer:
	@cd viewer && npm ci && npm run build

# pip-audit in an environment of its own: it is no dependency, and its own packages are not what is asked about.
audit: $(VENV)/all.done
	@test -x $(VENV)/audit/bin/pip-audit || { $(PYTHON) -m venv $(VENV)/audit && $(VENV)/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit; }
	@$(VENV)/audit/bin/pip-audit --progress-spinner off --skip-editable --path "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"

setup: $(VENV)/all.done

$(VENV)/%.done: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "elr_mri needs Python 3.11 or newer; try make PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing elr_mri[$*] into $(VENV) (a few minutes, once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$*]"
	@touch $@

clean:
	rm -rf $(VENV) results/[a-z]* .snakemake
