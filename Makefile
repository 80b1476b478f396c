# make demo   set up, run the built-in phantom study, end with the path of the report
# make test   set up, run the tests
# make test-browser   the report in a headless Chromium (apt-get install chromium); REPORT=page.html opens that one; pictures in build/browser
# make viewer   build the report's viewer anew (Node and npm)
# make audit   look the installed packages up in the public list of vulnerabilities (needs the network)
# make test-slow   the tests that take minutes each
# make chaos   kill -9 at random moments and other misfortunes; what comes out must be as undisturbed. KILLS=6 for fewer, SEED=1 for others
# make test-slurm   the mini study through a real Slurm on this machine, as root on Debian: installs slurm-wlm and munge, and stops what it started
PYTHON ?= python3
CORES  ?= $(shell getconf _NPROCESSORS_ONLN)
VENV   := .venv
BIN    := $(CURDIR)/$(VENV)/bin

.PHONY: demo test test-slow test-browser test-slurm chaos viewer audit setup clean
.DELETE_ON_ERROR:

demo: $(VENV)/all.done
	@PATH="$(BIN):$$PATH" snakemake --cores $(CORES)
	@echo "The report: $(CURDIR)/results/report.html"

test: $(VENV)/test.done
	@PATH="$(BIN):$$PATH" python -m pytest -n 2 --dist loadgroup -m "not slow and not browser and not slurm"

test-slow: $(VENV)/test.done
	@PATH="$(BIN):$$PATH" python -m pytest -m "slow and not slurm"

chaos: $(VENV)/test.done
	@PATH="$(BIN):$$PATH" PYTHONPATH="$(CURDIR)" python benchmarks/chaos.py --kills $(or $(KILLS),30) --seed $(or $(SEED),0)

test-browser: $(VENV)/test.done
	@PATH="$(BIN):$$PATH" ELR_MRI_REPORT="$(REPORT)" python -m pytest -m browser tests/findings

test-slurm: $(VENV)/test.done $(VENV)/slurm/done
	@command -v slurmctld >/dev/null && command -v munged >/dev/null || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge; }
	@PATH="$(BIN):$$PATH" ELR_MRI_SNAKEMAKE="$(CURDIR)/$(VENV)/slurm/bin/snakemake" python -m pytest -m slurm tests/workflow

viewer:
	@cd viewer && npm ci && npm run build

# pip-audit in an environment of its own: it is no dependency, and its own packages are not what is asked about. Without --strict it
# skips what the service does not know (all, behind some mirrors) and says that nothing was found; a build's label (+cpu) it never knows.
audit: $(VENV)/all.done
	@test -x $(VENV)/audit/bin/pip-audit || { $(PYTHON) -m venv $(VENV)/audit && $(VENV)/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit; }
	@"$(BIN)/python" -m pip list --disable-pip-version-check --format=freeze --exclude-editable | sed 's/+.*//' > $(VENV)/audit/installed.txt
	@$(VENV)/audit/bin/pip-audit --progress-spinner off --strict --no-deps --disable-pip --requirement $(VENV)/audit/installed.txt

setup: $(VENV)/all.done

$(VENV)/%.done: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "elr_mri needs Python 3.11 or newer; try make PYTHON=python3.11")'
	@test -x "$(BIN)/python" || $(PYTHON) -m venv $(VENV)
	@echo "Installing elr_mri[$*] into $(VENV) (a few minutes, once)"
	@"$(BIN)/python" -m pip install --quiet --disable-pip-version-check --editable ".[$*]"
	@touch $@

# Snakemake and its plugin for Slurm, in an environment of their own
$(VENV)/slurm/done: pyproject.toml | $(VENV)/test.done
	@test -x $(VENV)/slurm/bin/python || $(PYTHON) -m venv $(VENV)/slurm
	@$(VENV)/slurm/bin/python -m pip install --quiet --disable-pip-version-check $$($(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["slurm"])')
	@touch $@

clean:
	rm -rf $(VENV) results/[a-z]* .snakemake
