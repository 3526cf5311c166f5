# `make` alone lists the commands. Everything builds with --locked; binaries are static (musl), as they ship.

TARGET ?= $(shell uname -m)-unknown-linux-musl
TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))
RELEASE := $(TARGET_DIR)/$(TARGET)/release

.NOTPARALLEL:
.PHONY: help demo test unit integration fmt lint release size clean setup

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: ## run the whole thing: Kafka, the program, ClickHouse, 100,000 events (DEMO=native|compose, DEMO_EXIT=1)
	@command -v python3 >/dev/null || dev/setup
	@dev/demo

test: setup unit release integration ## all tests, against real Kafka and ClickHouse that they start themselves

unit: ## tests without services (FUZZ_SECONDS, default 5, of hostile batches among them)
	cargo test --workspace --locked --lib --bins --no-fail-fast
	cargo test --workspace --locked --doc --no-fail-fast
	cargo test --locked --test fuzz_records

# For the tests only: the demo takes a binary that it finds here as it is, without building.
integration: export SANDARB_CONSUMER_BIN ?= $(RELEASE)/sandarb-consumer
integration: export SANDARB_SAMPLE_BIN ?= $(RELEASE)/sample-events
integration: ## tests with services (after `make release`)
	@test -x "$(SANDARB_CONSUMER_BIN)" || { echo "no $(SANDARB_CONSUMER_BIN): run make release" >&2; exit 1; }
	cargo test --workspace --locked --test '*' --no-fail-fast -- --test-threads=2

fmt: ## format the code
	cargo fmt --all

lint: ## formatting and clippy, warnings are errors
	cargo fmt --all --check
	cargo clippy --workspace --locked --all-targets -- -D warnings

release: ## the static binaries
	cargo build --workspace --locked --bins --release --target $(TARGET)

size: release ## how big the program is
	@ls -l "$(RELEASE)/sandarb-consumer" | awk '{ printf "%s: %d bytes, %.2f MiB\n", $$NF, $$5, $$5 / 1048576 }'

clean: ## remove what was built; the cache of dev/setup stays
	cargo clean

setup:
	@dev/setup
