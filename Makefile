# Each target makes .venv when it is absent, and brings it up to date when requirements.txt has changed.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
TESTABLE := $(VENV)/.testable
APP := apps/prato_label
HOST ?= 127.0.0.1
PORT ?= 8000
STUDIES ?=
# Threads that wait by spinning starve each other when a server, a training and a test share two cores.
export OMP_WAIT_POLICY ?= PASSIVE

# Three test files at once, on two cores: a third of the time tests wait, for servers and processes.
# With bytecode, whatever the surroundings say: without it each process compiles every test, and each server the app, at every run.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 3 --no-loadscope-reorder
# Compiled once, here: where PYTHONDONTWRITEBYTECODE is set, as in many containers, every process would compile torch and MONAI anew.
# Some files are templates and no Python, which compileall says and pip forgives.
COMPILE := $(BIN)/python -m compileall -q -j 0 $(VENV)/lib >/dev/null || true

.PHONY: help demo test check quick lint report tutorial serve
.DEFAULT_GOAL := help

help:
	@echo "make demo                             run the whole loop on generated hearts: box, mask, correction, training, better mask (into out/demo)"
	@echo "make serve STUDIES=folder [PORT=8000] start the MONAI Label server on a studies folder or a PACS (http://…/dicom-web), for this machine only; for others see docs/server.md"
	@echo "make check                            run ruff, mypy and the quick tests, which are most of the tests"
	@echo "make test                             run all tests"
	@echo "make lint                             run ruff and mypy"
	@echo "make report                           write every table and figure of README and docs from docs/results"
	@echo "make tutorial                         take the pictures of the panel and of the server's pages again, by clicking through them on generated hearts"

demo: $(INSTALLED)
	@$(BIN)/python scripts/demo.py

test: $(TESTABLE)
	@$(PYTEST)

# Side by side: mypy takes one core for most of a minute.
check: $(TESTABLE)
	@$(MAKE) --no-print-directory -j2 lint quick

quick: $(TESTABLE)
	@$(PYTEST) -m "not slow"

lint: $(TESTABLE)
	@$(BIN)/ruff check .
	@$(BIN)/mypy apps/prato_label scripts slicer_module/PratoLabel

report: $(INSTALLED)
	@$(BIN)/python scripts/report.py

# Of a variable's text as it was given, with its dollar signs, one word of the shell.
quoted = '$(subst ','\'',$(value $(1)))'

tutorial: $(TESTABLE)
	@PRATO_LABEL_TUTORIAL=1 $(BIN)/python -m pytest -q tests/slicer_module/test_tutorial_live.py
	@PRATO_TEST_PAGE_PICTURES=docs/images $(BIN)/python -m pytest -q tests/app/test_page_live.py tests/app/test_page_of_a_study_live.py -k "page_asks or rounds or heartbeat"

# What the stock command "monailabel start_server" does, guarded (docs/server.md), whatever characters STUDIES holds.
serve: studies-given $(INSTALLED)
	@exec $(BIN)/python $(APP)/serve.py --studies=$(call quoted,STUDIES) --host=$(call quoted,HOST) --port=$(call quoted,PORT)

# Asked before anything is installed, also by make -j, which takes prerequisites at the same time.
$(BIN)/python $(INSTALLED): | $(if $(filter serve,$(MAKECMDGOALS)),studies-given)

.PHONY: studies-given
studies-given:
	@studies=$(call quoted,STUDIES); case "$$studies" in \
	  "") echo "Say which studies to serve: make serve STUDIES=folder-of-nifti-images" >&2; exit 2;; \
	  http://*|https://*) ;; \
	  *) test -d "$$studies" || { printf '%s\n' "$$studies is not a folder: make serve STUDIES=folder-of-nifti-images" >&2; exit 2; };; \
	esac

$(BIN)/python:
	@found=; \
	for name in python3.11 python3.10; do \
	  if "$$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] not in ((3, 10), (3, 11)))' 2>/dev/null; then found=$$name; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "PrATo Label needs Python 3.11 or 3.10 with venv (MONAI Label runs on no newer one): install python3.11 so that it is found by that name." >&2; exit 2; \
	fi; \
	"$$found" -m venv $(VENV)

$(INSTALLED): requirements.txt pyproject.toml | $(BIN)/python
	@echo "Installing into $(VENV): some 4 GB, about 3 minutes."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -r requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@$(COMPILE)
	@$(BIN)/python -m pip check
	@touch $@

$(TESTABLE): tests/requirements.txt $(INSTALLED)
	@echo "Installing what the tests need: another 1.3 GB."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -r requirements.txt -r tests/requirements.txt
	@$(COMPILE)
	@$(BIN)/python -m pip check
	@touch $@
