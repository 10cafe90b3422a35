# The only door: everything that a person or a machine does here is a target of this file.

SHELL := /bin/bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

CARGO ?= cargo
NODES ?= 3
SEEDS ?= 20
FOR ?= 30
WORKLOADS ?= register,delete-recreate,lww,list,set,multipart,siblings
MIXES ?= p,d,s,m,x,c,cp,cdp,scmdp
SEED ?= 1
REPORTS ?= $(CARGO_TARGET_DIR)/partition-tests
E2E_ARGS ?=
SIMULATION_ARGS ?=
PROGRAMS_ARGS ?=
MUTATIONS_ARGS ?=
BENCH_ARGS ?= mixed --bucket bench --duration 10s

# One target folder for run and test; RocksDB is compiled into it once.
export CARGO_TARGET_DIR ?= $(CURDIR)/target
export QUORATE_BIN := $(CARGO_TARGET_DIR)/release/quorate
CLUSTER := config/local-cluster.sh

.PHONY: help deps build programs test check fmt-check clippy doc fix \
	cluster cluster-stop cluster-clean cluster-status node-stop node-kill node-start \
	bench benchmarks benchmark-outage benchmark-repair e2e simulation mutations fuzz models \
	fault-deps jepsen jepsen-slice

help: ## List every target
	@awk 'BEGIN { FS = ":.*## " } /^[a-z0-9-]+:.*## / { printf "  make %-26s %s\n", $$1, $$2 }' \
		$(MAKEFILE_LIST)

deps: ## Install what a build needs from Debian's packages
	@config/install-deps.sh

build: deps ## Build the binary
	$(CARGO) build --release --locked

# With PROGRAMS_ARGS=--tests everything is built with the features that tests need, so that what
# `make test` compiled is not compiled once more.
programs: deps ## Build the binary and the programs that test it
	$(CARGO) build --release --locked --workspace --bins $(PROGRAMS_ARGS)

test: deps ## Run all tests
	$(CARGO) test --release --locked --workspace

check: fmt-check clippy doc test ## Format, lints, documentation and tests: what must pass

fmt-check: ## Check the formatting
	$(CARGO) fmt --all --check

clippy: deps ## Check the lints
	$(CARGO) clippy --release --locked --workspace --all-targets -- -D warnings

doc: deps ## Check the documentation
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --release --locked --no-deps --document-private-items

fix: ## Format the code
	$(CARGO) fmt --all

cluster: build ## Start a local cluster (NODES=3) and print how to use it
	@$(CLUSTER) start $(NODES)

cluster-stop: ## Stop the local cluster; its data stays
	@$(CLUSTER) stop

cluster-clean: ## Stop the local cluster and remove its data
	@$(CLUSTER) clean

cluster-status: ## Show the local cluster's health and nodes
	@$(CLUSTER) status || true

node-stop: ## Stop one node of the local cluster in order (I=2)
	@$(CLUSTER) node-stop "$(I)"

node-kill: ## Kill one node of the local cluster, as a crash would (I=2)
	@$(CLUSTER) node-kill "$(I)"

node-start: ## Start one node of the local cluster again (I=2)
	@$(CLUSTER) node-start "$(I)"

bench: ## Measure the local cluster (BENCH_ARGS="put --bucket b --size 1MiB --duration 10s")
	@$(CLUSTER) bench $(BENCH_ARGS)

benchmarks: build ## Measure what docs/benchmarks.md says, on a fresh local cluster
	config/benchmarks.sh

benchmark-outage: build ## Measure what an outage costs, on a local cluster of five (FOR=10s)
	config/outage-benchmark.sh

benchmark-repair: build ## Measure what repair costs, on a local cluster of three (RECORDS=100000)
	config/repair-benchmark.sh

e2e: programs ## Run the clients' tests against clusters of their own (E2E_ARGS="test_listing.py")
	tests/e2e/run.sh $(E2E_ARGS)

simulation: programs ## Run the simulation over seeds (SEEDS=20)
	$(CARGO_TARGET_DIR)/release/quorate-simulation --seeds $(SEEDS) $(SIMULATION_ARGS)

mutations: deps ## Plant each bug and see that it is found (MUTATIONS_ARGS="--within 180")
	$(CARGO) test --no-run --release --locked -p quorate-simulation --features mutations --bins \
		--test catalog --test repair --test store_compaction --test store_crash
	$(CARGO_TARGET_DIR)/release/quorate-simulation mutations $(MUTATIONS_ARGS)

fuzz: deps ## Read bytes that were tampered with, each kind FOR=30 seconds
	FUZZ_SECONDS=$(FOR) $(CARGO) test --release --locked --lib fuzz:: -- --nocapture

models: programs ## Compute the tables and plots of docs/models.md
	$(CARGO_TARGET_DIR)/release/quorate-models all --out docs/plots --page docs/models.md

fault-deps:
	@config/install-deps.sh faults

jepsen: programs fault-deps ## Run workloads under mixes of faults (WORKLOADS, MIXES, FOR=30 seconds each: 75 minutes)
	$(CARGO_TARGET_DIR)/release/quorate-jepsen matrix --workloads "$(WORKLOADS)" \
		--mixes "$(MIXES)" --seconds $(FOR) --seed $(SEED) --binary "$(QUORATE_BIN)" \
		--reports "$(REPORTS)"

jepsen-slice: programs fault-deps ## Run a few minutes of that (SEED=1)
	@jepsen/slice.sh "$(CARGO_TARGET_DIR)/release/quorate-jepsen" "$(QUORATE_BIN)" $(SEED)
