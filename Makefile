# PYTHON creates the environment, `make train` runs CONFIG, and ARGS are passed
# on to the tool: make test ARGS='-k schedule -x'
PYTHON ?= python3
CONFIG ?= configs/quickstart/prkd_digits.py
ARGS ?=

VENV := .venv
PY := $(VENV)/bin/python
# OURS marks an environment that make created, STAMP one that is complete.
# The stamp contains this folder's name: after a move, the editable install is repeated.
OURS := $(VENV)/made-by-make
STAMP := $(VENV)/up-to-date

.PHONY: help train test test-fast lint format types docs env FORCE

help:
	@echo 'make train [CONFIG=configs/...py]   train teacher and students, show a table'
	@echo 'make test                           run all tests'
	@echo 'make test-fast                      run the fast tests, while you edit'
	@echo 'make lint                           check style, imports and spelling; change nothing'
	@echo 'make format                         format the code and fix what ruff can fix'
	@echo 'make types                          check the types of the package'
	@echo 'make docs                           build the pages of docs/ into docs/_build'
	@echo 'make env                            only set up the environment, $(VENV)'
	@echo 'ARGS=... is passed on to the tool: make test ARGS="-k schedule -x"'

# The README's numbers of the quickstart are those of a live teacher.
train: env
	@$(PY) tools/reproduce.py $(CONFIG) \
	  $(if $(findstring quickstart/prkd_digits,$(CONFIG)),--store-views 0) $(ARGS)

test: env
	@$(PY) -m pytest tests $(ARGS)

# A process runs whole files, since tests of one file share trained nets.
test-fast: env
	@OMP_NUM_THREADS=1 $(PY) -m pytest tests -q -n 2 --dist loadfile \
	  -m 'not slow and not e2e and not bench' $(ARGS)

lint: env
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(VENV)/bin/codespell

format: env
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

types: env
	@$(PY) -m mypy

docs: env
	@$(PY) docs/make_arguments.py
	@$(PY) -m sphinx -q -W -b html docs docs/_build

env: $(STAMP)

ifneq ($(shell cat $(STAMP) 2>/dev/null),$(CURDIR))
$(STAMP): FORCE
endif
$(STAMP): requirements.txt setup.py
	@if [ -e $(VENV) ] && [ ! -e $(OURS) ]; then \
	  echo '$(VENV) was not made by make: move it away, or install into it' \
	    'yourself: pip install -r requirements.txt && pip install -e .'; exit 1; fi
# Without a stamp, the last attempt was interrupted and may have left incomplete packages.
	@if [ ! -e $(STAMP) ]; then \
	  $(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' \
	    || { echo 'The pins need Python 3.11 or 3.12: make PYTHON=python3.11'; exit 1; }; \
	  $(PYTHON) -c 'import ensurepip' 2>/dev/null \
	    || { echo '$(PYTHON) cannot make environments: apt install python3-venv'; exit 1; }; \
	  mkdir -p $(VENV) && touch $(OURS) \
	    && find $(VENV) -mindepth 1 ! -path $(OURS) -delete \
	    && $(PYTHON) -m venv $(VENV); fi
	@rm -f $(STAMP)
	$(PY) -m pip install -r requirements.txt
	@$(PY) -c 'import cv2' 2>/dev/null || { \
	  echo 'OpenCV finds no libGL; installing its headless build instead.'; \
	  sed -n 's/^opencv-python==/opencv-python-headless==/p' requirements.txt \
	    | xargs $(PY) -m pip install --force-reinstall --no-deps; }
	$(PY) -m pip install --no-deps --no-build-isolation --use-pep517 -e .
	@printf '%s' '$(CURDIR)' > $(STAMP)
