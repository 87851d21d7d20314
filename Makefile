# make demo  runs the main job on embedded data; make test  passes the tests. Both install first.
PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3.10 python3,$(shell command -v $(p) 2>/dev/null)))
VENV ?= .venv
PY := $(VENV)/bin/python
DEMO := data/demo
DEMO_WORK := work_dirs/demo
# Around the demo's tiles, and none of them.
UNLABELLED := 10SBF 10SCF 10SHF 10SBG 10SCG 10SHG 10SBH 10SCH 10SHH 10SBJ 10SCJ 10SHJ \
	10SEC 10SFC 10SGC 10SED 10SFD 10SGD 10SEE 10SFE 10SGE 10SEK 10SFK 10SGK
STUDY_TESTS := tests/test_tools/test_label_efficiency.py
# Two test processes with a thread each are faster than one with two.
test-onedl test-openmmlab test-study: export OMP_NUM_THREADS = 1

.DEFAULT_GOAL := help
.PHONY: help install demo study study-smoke test test-onedl test-openmmlab test-study lint format docs clean

help:  ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

install: $(VENV)/.installed  ## virtual environment with the package, the OneDL stack and test tools

# torch first and by its exact version: a bare "torch" may bring gigabytes of CUDA packages.
$(VENV)/.installed: pyproject.toml requirements/onedl.txt
	$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12) and "geoseg_prithvi needs Python 3.10 to 3.12; run: make PYTHON=/path/to/python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install -q -c requirements/onedl.txt torch
	$(PY) -m pip install -q -c requirements/onedl.txt -e '.[onedl,data,study,test]'
	touch $@

.venv-openmmlab/.installed: pyproject.toml requirements/openmmlab.txt
	$(PYTHON) -m venv .venv-openmmlab
	.venv-openmmlab/bin/python -m pip install -q -c requirements/openmmlab.txt torch setuptools wheel
	.venv-openmmlab/bin/python -m pip install -q -c requirements/openmmlab.txt -e '.[openmmlab,test]'
	touch $@

demo: install  ## synthetic granules -> chips -> training -> test -> land-cover map (10 minutes on 2 cores)
	PY=$(PY) tools/demo.sh $(DEMO) $(DEMO_WORK)

study: install  ## pre-training and 100 runs on the embedded world -> docs/study (2 hours on 2 cores)
	PY=$(PY) UNLABELLED='$(UNLABELLED)' tools/study.sh configs/studies/demo.py $(DEMO) docs/study

study-smoke: install  ## a corner of the study, on a smaller world (4 minutes)
	PY=$(PY) tools/study.sh configs/studies/demo_smoke.py data/demo_smoke work_dirs/study_smoke/report \
		--tiles 10SEG 10SFG 10SGG --size 256 --scene ''

test: test-onedl test-openmmlab  ## the test suite, on both MMSegmentation stacks

test-onedl: install
	$(PY) -m pytest -n 2 --dist loadfile --ignore=$(STUDY_TESTS)

test-study: install  ## whole studies: killed, failing, changed, on submitit (5 minutes)
	$(PY) -m pytest $(STUDY_TESTS)

test-openmmlab: .venv-openmmlab/.installed
	.venv-openmmlab/bin/python -m pytest -n 2 tests/test_compat.py tests/test_imports.py \
		tests/test_tools/test_train.py -k "not full_size and not two_cpu and not killed"

lint: install  ## ruff and codespell
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/codespell

format: install  ## apply ruff's fixes and formatting
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

docs: install  ## build the documentation into site/
	$(PY) -m pip install -q -c requirements/onedl.txt -e '.[docs]'
	$(VENV)/bin/mkdocs build --strict

clean:  ## remove environments, data and results
	rm -rf .venv .venv-openmmlab data work_dirs site build *.egg-info
