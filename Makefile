# `make` alone lists the commands. Everything builds with --locked; binaries are static (musl), as they ship.

TARGET ?= $(shell uname -m)-unknown-linux-musl
GLIBC := $(shell uname -m)-unknown-linux-gnu
TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))
RELEASE := $(TARGET_DIR)/$(TARGET)/release

# Tests of what the broker of KAFKA_VERSION lacks: KIP-848 before 4.0, SCRAM between ZooKeeper and 3.5, and here also several
# brokers before KRaft.
LACKING := $(if $(filter 2.% 3.%,$(KAFKA_VERSION)),members_of_the_new_protocol_come_and_go) \
           $(if $(filter 2.%,$(KAFKA_VERSION)),brokers_die_and_restart_and_nothing_is_lost_or_doubled log_cuts::) \
           $(if $(filter 3.0.% 3.1.% 3.2.% 3.3.% 3.4.%,$(KAFKA_VERSION)),scram_logs_in)

# Integration tests at a time.
TEST_THREADS ?= 8

.NOTPARALLEL:
.PHONY: help demo test unit fuzz integration manifests faults fmt lint release size image-test reproducible clean setup bench
.PHONY: bench-latency bench-flat bench-server bench-stages bench-aarch64

# Tests without services: those that read what is deployed and what is linked, and those that need nothing. All others are
# integration tests.
MANIFESTS := manifests dependencies
UNIT := allocations
FUZZ := fuzz_records model_fuzz
INTEGRATION := it $(filter-out $(MANIFESTS) $(UNIT) $(FUZZ),$(basename $(notdir $(wildcard tests/*.rs))))

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

demo: ## run the whole thing: Kafka, the program, ClickHouse, 100,000 events (DEMO=native|compose, DEMO_EXIT=1)
	@command -v python3 >/dev/null || dev/setup demo
	@dev/demo

test: setup unit fuzz manifests release integration ## all tests, against real Kafka and ClickHouse that they start themselves

unit: ## tests without services
	cargo test --workspace --locked --lib --bins $(UNIT:%=--test %) --no-fail-fast
	cargo test --workspace --locked --doc --no-fail-fast

fuzz: ## hostile record batches and mutated events, FUZZ_SECONDS (default 5) of each
	cargo test --locked $(FUZZ:%=--test %) --no-fail-fast -- --nocapture

# For the tests only: the demo takes a binary that it finds here as it is, without building.
integration: export SANDARB_CONSUMER_BIN ?= $(RELEASE)/sandarb-consumer
integration: export SANDARB_SAMPLE_BIN ?= $(RELEASE)/sample-events
integration: setup ## tests with services (after `make release`; TEST_THREADS); KAFKA_VERSION=3.9.1, 3.3.2, 2.8.2: older brokers
	@test -x "$(SANDARB_CONSUMER_BIN)" || { echo "no $(SANDARB_CONSUMER_BIN): run make release" >&2; exit 1; }
	@$(if $(strip $(LACKING)),echo "left out because Kafka $(KAFKA_VERSION) lacks what they need: $(LACKING)")
	@# Most tests wait most of the time: more of them at once than processors. Then those that measure, one by one. Both run,
	@# whatever becomes of the first.
	code=0; \
	cargo test --workspace --locked $(INTEGRATION:%=--test %) --no-fail-fast -- \
	  --test-threads=$(TEST_THREADS) --skip ::alone_ $(LACKING:%=--skip %) || code=$$?; \
	cargo test --workspace --locked --test it -- --test-threads=1 ::alone_ || code=$$?; \
	exit $$code

manifests: setup ## tests of what is deployed (k8s/, Compose, Dockerfile) and of the dependencies' limits
	cargo test --locked $(MANIFESTS:%=--test %) --no-fail-fast

faults: export SANDARB_CONSUMER_BIN ?= $(RELEASE)/sandarb-consumer
faults: export FAULT_ROUNDS ?= 20
faults: export FAULT_HOLD_SECONDS ?= 100
faults: setup release ## long series of faults for the group, the tests named long_ in full, memory: prints what each did
	cargo test --workspace --locked --test it -- --test-threads=2 --nocapture group_ long_ --skip ::alone_ $(LACKING:%=--skip %)
	cargo test --workspace --locked --test it -- --test-threads=1 --nocapture group_changes::alone_
	MEMORY_EVENTS=1000000 OUTAGE_SECONDS=300 cargo test --locked --test it -- --test-threads=1 --nocapture memory::

fmt: ## format the code
	cargo fmt --all

lint: ## formatting and clippy, warnings are errors
	cargo fmt --all --check
	cargo clippy --workspace --locked --all-targets -- -D warnings

release: ## the static binaries
	cargo build --workspace --locked --bins --release --target $(TARGET)

size: release ## how big the program is, how soon it answers, how little it takes; fails above the limits
	@dev/size "$(RELEASE)/sandarb-consumer"

image-test: setup release ## the image (or, without a Docker engine, the binary) through 200,000 events (IMAGE_EVENTS=N)
	@dev/image-test "$(RELEASE)/sandarb-consumer" "$(RELEASE)/sample-events"

reproducible: ## build twice, in two places, and compare the bytes (takes long)
	@dev/reproducible "$(TARGET)"

bench: setup release ## CPU, memory and speed beside a program on rdkafka (BENCH_RUNS, BENCH_EVENTS; see benches/README.md)
	cargo build --manifest-path benches/baseline/Cargo.toml --locked --release --target-dir "$(TARGET_DIR)/baseline"
	@benches/run

bench-latency: setup release ## how soon an event is visible, how soon the program answers and stores
	@benches/latency

bench-flat: setup release ## CPU of an event by the number of events and of partitions
	@benches/flat

bench-server: setup release ## what an inserted row costs the server, by how it is sent (SERVER_RUNS, SERVER_EVENTS)
	@benches/server

# Built first, so that nothing compiles while the figures are taken.
bench-stages: STAGES = cargo $(1) --manifest-path benches/stages/Cargo.toml --locked --release \
                       --target-dir "$(TARGET_DIR)/stages" --target $(2)
bench-stages: SAMPLES = $(if $(STAGE_ROUNDS),--sample-size $(STAGE_ROUNDS))
bench-stages: setup ## CPU of an event in each step from fetch answer to Native block, glibc and musl (STAGE_ROUNDS)
	$(call STAGES,build,$(GLIBC))
	$(call STAGES,build,$(TARGET))
	CRITERION_HOME="$(TARGET_DIR)/criterion/glibc" $(call STAGES,run,$(GLIBC)) --quiet -- --bench $(SAMPLES)
	CRITERION_HOME="$(TARGET_DIR)/criterion/musl" $(call STAGES,run,$(TARGET)) --quiet -- --bench $(SAMPLES)

bench-aarch64: ## test fast-mem for aarch64 and count its instructions beside musl's, emulated (needs qemu-user)
	@benches/aarch64/run

clean: ## remove what was built; the cache of dev/setup stays
	cargo clean

setup:
	@dev/setup
