# The project's only entry point; CI and developers run the same targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
BIN := .venv/bin
# Where it is set, each of the many Python programs of a run compiles all that it imports: role base
# with nothing to change took 12.4 CPU seconds with it and 6.7 without.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help:  ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: .venv/.ready  ## the Python environment and the system packages

.venv/.ready: requirements.txt pyproject.toml scripts/setup.sh
	@scripts/setup.sh
	@touch $@

.PHONY: lock
lock: setup  ## requirements.txt anew from pyproject.toml
	@$(BIN)/uv pip compile --system-certs -q pyproject.toml --group dev --universal --generate-hashes \
	  --no-emit-index-url --no-annotate --no-header -o requirements.txt

.PHONY: check
check: setup  ## lint, types and unit tests (some minutes)
	@scripts/check.sh

.PHONY: test
test: setup  ## check, the app, Molecule scenarios, two seed systems, one of four stories, the demo (about an hour on 2 cores); JOBS=3 STAGES=molecule-ca
	@$(BIN)/python -m tests.run $(STAGES) $(if $(JOBS),--jobs $(JOBS))

.PHONY: test-all
test-all: setup  ## the same with all of the long stories, which take turns in make test
	@$(BIN)/python -m tests.run --all $(if $(JOBS),--jobs $(JOBS))

.PHONY: test-faults
test-faults: setup  ## kill, cut and break releases at every place (over an hour); SEED=, ONLY=release/start
	@$(BIN)/python -m tests.faults $(if $(SEED),--seed $(SEED)) $(if $(ONLY),--only $(ONLY)) $(if $(SAMPLE),--sample $(SAMPLE))

.PHONY: test-seeds
test-seeds: setup  ## provision all five seed systems from their own inventories; ONLY=kore
	@$(BIN)/pytest -v -rs tests/seeds $(if $(ONLY),-k $(ONLY))

# The suite is Debian's: trixie, or testing for the release in the making.
.PHONY: test-vm
test-vm: setup  ## site.yml and a reboot on a virtual machine, emulated (an hour); SUITE=testing
	@$(BIN)/pytest -v -rs tests/machine

.PHONY: test-next
test-next: export SUITE = testing
test-next: test-vm  ## the same on Debian testing: what the next release will change

.PHONY: drill
drill: setup  ## a server burns down while people write, and is rebuilt (under 15 minutes); ARGS=--keep
	@$(BIN)/python -m tests.drill $(ARGS)

# --- The demo: testbed/demo.py ---

.PHONY: demo
demo: setup  ## the whole of it on a server on this machine (under 3 minutes)
	@$(BIN)/python -m testbed.demo up

.PHONY: demo-down
demo-down:  ## remove the demo
	@python3 -m testbed.demo down

# --- Inventories: src/bedstone_control/cli.py ---

given = "$(or $($(1)),$(error $(1) is missing. Example: \
  make $@ NAME=production HOST=192.0.2.10 DOMAIN=pay.example.com))"

.PHONY: new
new: setup  ## an inventory with fresh secrets: NAME=production HOST=192.0.2.10 DOMAIN=pay.example.com
	@$(BIN)/python -m bedstone_control new $(call given,NAME) --host $(call given,HOST) \
	  --domain $(call given,DOMAIN) $(ARGS)

.PHONY: secrets
secrets: setup  ## add the secrets that an inventory lacks: NAME=production
	@$(BIN)/python -m bedstone_control secrets $(call given,NAME)

.PHONY: backup-key
backup-key: setup  ## show the key of the backups off the host, and prove that it is kept: NAME=production
	@$(BIN)/python -m bedstone_control backup-key $(call given,NAME) $(ARGS)

.PHONY: backup-key-check
backup-key-check: setup  ## prove it again, from the place where the key is kept: NAME=production
	@$(BIN)/python -m bedstone_control backup-key $(call given,NAME) --check $(ARGS)

.PHONY: docs
docs: setup  ## docs/settings.md and the lists of roles, from the schema and the roles
	@$(BIN)/python -m bedstone_control docs

# --- What a run costs: bench/ ---

.PHONY: bench
bench: setup  ## time site.yml, releases and backups on fresh servers; WRITE=1 puts it into docs
	@$(BIN)/python -m bench $(if $(WRITE),--write)
