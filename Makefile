# The front door. On a fresh Debian machine with Rust, Java, Maven, Node and Python these commands do
# all the set-up they need.

.PHONY: run world world-down test soak fuzz check bench clean

# The whole pipeline on the embedded default, with a demo one can watch.
run:
	cargo run --quiet -- dev --demo

# Real Kafka, SQS, S3 and Postgres on this machine, without Docker.
world:
	localstack/up

world-down:
	localstack/down

# Every test, against the real world.
test:
	scripts/test

# Consumers that come, go, die and stand still for five minutes while 200,000 records flow. The same for
# some seconds is part of `make test`.
soak:
	HOOKWRIGHT_SOAK_SECONDS=300 HOOKWRIGHT_SOAK_RECORDS=200000 scripts/test --test system soak -- --nocapture

# Bytes that a fuzzer makes up, ten minutes for each decoder: HOOKWRIGHT_FUZZ_SECONDS=60 make fuzz for less.
fuzz:
	scripts/fuzz

# Format, lints, docs, licences, unused dependencies.
check:
	scripts/check

# Rates, latencies and costs, beside the bare loops of the same run.
bench:
	cargo build --release -p hookwright -p bench
	localstack/up
	. target/world/env && target/release/bench all --product target/release/hookwright

clean:
	cargo clean
