# The commands of this project; they install what they need first (but an engine for `image`, and nightly Rust for `fuzz`). What they do lies in scripts/ and in tests/.
.DEFAULT_GOAL := help
.PHONY: help demo up down test alerts faults consistency lint fmt bench-core bench-batch bench-speed bench-serving conformance oracle fuzz types image deploy-check deploy-manifests

# Folder of .ndjson.gz to load in place of generated patients.
DATA ?=
# 1: demo leaves the stack running.
KEEP ?=
# How often `make faults` kills, and ten times as often shuffles; how many races it runs.
ROUNDS ?= 100
CASES ?= 3000
# How long each fuzz target, and the consistency checker, run.
MINUTES ?= 10
# What images are named after.
PREFIX ?= researchflow
# Of all that the consistency checker leaves to chance; faults that it is to find (lost_row, old_row, mixed_rows, going_back, early_as_of, known_version).
SEED ?= 1
PLANT ?=
DEV = "$${CARGO_TARGET_DIR:-target}"/debug/dev

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' Makefile

demo: build ## a resource's way from HAPI to an answer, told step by step; DATA=<folder of .ndjson.gz>, KEEP=1
	@$(DEV) demo $(if $(DATA),--data "$(DATA)") $(if $(filter 1,$(KEEP)),--keep)

up: build ## starts the stack in the background, with its addresses in target/dev/endpoints.env: DATA=<folder of .ndjson.gz>
	@$(DEV) up $(if $(DATA),--data "$(DATA)")

down: ## ends what `make up` or `make demo KEEP=1` left running
	@$(DEV) down

# Most tests wait for servers most of the time: four at once, whatever the number of cores.
test: build ## all tests, and deploy-check
	@$(MAKE) --no-print-directory deploy-check
	RUST_TEST_THREADS="$${RUST_TEST_THREADS:-4}" cargo test --locked --workspace -- --show-output

alerts: build ## every alert provoked on a running installation, through Prometheus and Alertmanager to a receiver in Slack's place
	@scripts/setup.sh deploy
	ALERTS=all cargo test --locked --package e2e --test alerts -- --show-output

faults: build ## the speed layer under faults, at length: kill -9, an emptied Redis, late and doubled webhooks: ROUNDS=, CASES=
	ROUNDS=$$(($(ROUNDS) * 10)) cargo test --locked --package e2e --test speed -- --show-output replay::
	ROUNDS=$(ROUNDS) CASES=$(CASES) cargo test --locked --package e2e --test speed -- --show-output --test-threads 1 kills:: races:: expiry::

consistency: build ## every answer held to what was written to a real HAPI, while parts are killed: MINUTES=, SEED=, PLANT=<faults to be found>
	@"$${CARGO_TARGET_DIR:-target}"/debug/consistency --minutes $(MINUTES) --seed $(SEED) $(if $(PLANT),--plant $(PLANT))

lint: ## all checks: format, clippy, licences, contracts
	@scripts/setup.sh lint
	@scripts/lint.sh

bench-core: ## the evaluator beside JSON parsers, as ratios; both needed: DATA=<folder of .ndjson.gz>, VIEWS=<folder of .vd.json>
	@scripts/setup.sh build
	cargo bench --locked --package bench --bench core -- $(if $(DATA),"$(abspath $(DATA))") $(if $(VIEWS),"$(abspath $(VIEWS))")

bench-batch: ## full and incremental refreshes beside materialized views: DATA=<folder of .ndjson.gz>, VIEWS=<folder of .vd.json>, SCALE=<MB>, PARTS=, INCREMENTAL=, RESOURCES=
	@scripts/setup.sh run
	cargo bench --locked --package bench --bench batch -- $(if $(DATA),--data "$(abspath $(DATA))") $(if $(VIEWS),--views "$(abspath $(VIEWS))") \
		$(if $(SCALE),--scale $(SCALE)) $(if $(PARTS),--parts $(PARTS)) $(if $(INCREMENTAL),--incremental $(INCREMENTAL)) \
		$(if $(RESOURCES),--resources $(RESOURCES))

bench-speed: ## the webhook beside redis-benchmark: LOAD_SECONDS=, CONNECTIONS=, BYTES=, FSYNC=everysec,always
	@scripts/setup.sh run
	cargo build --locked --release --workspace --bins
	cargo bench --locked --package bench --bench speed -- $(if $(LOAD_SECONDS),--seconds $(LOAD_SECONDS)) $(if $(CONNECTIONS),--connections $(CONNECTIONS)) \
		$(if $(BYTES),--bytes $(BYTES)) $(if $(FSYNC),--fsync $(FSYNC))

bench-serving: ## the gateway beside bare connections: PATIENTS=, OBSERVATIONS=, LIVE=, LOAD_SECONDS=, ONLY=
	@scripts/setup.sh run
	cargo build --locked --release --workspace --bins
	cargo bench --locked --package bench --bench serving -- $(if $(PATIENTS),--patients $(PATIENTS)) $(if $(OBSERVATIONS),--observations $(OBSERVATIONS)) \
		$(if $(LIVE),--live $(LIVE)) $(if $(LOAD_SECONDS),--seconds $(LOAD_SECONDS)) $(if $(ONLY),--only $(ONLY))

conformance: ## a SQL on FHIR suite, as in github.com/FHIR/sql-on-fhir.js; needed: SUITE=<folder>
	@scripts/setup.sh build
	@cargo run --locked --quiet --package fhir-core --example conformance -- "$(SUITE)"

oracle: ## FHIRPath compared with fhirpath.js (Node 20 by hand), and what explains the differences
	@scripts/setup.sh oracle
	@scripts/oracle.sh

fuzz: ## any resource, view and expression (nightly Rust): MINUTES=<of each>
	@scripts/setup.sh fuzz
	@scripts/fuzz.sh "$(MINUTES)"

image: ## the daemons' images, by docker, podman or buildah: PREFIX=<registry/folder>
	@scripts/image.sh $(PREFIX)

DEPLOY_CHECK = cd scripts && PYTHONDONTWRITEBYTECODE=1 "$(abspath $(or $(CARGO_TARGET_DIR),target))/tools/deploy/bin/python" -m deploy_check

deploy-check: ## everything under deploy/: chart, manifests, policies, compose, alerts, dashboards; and that a broken field is seen
	@scripts/setup.sh deploy
	@$(DEPLOY_CHECK)
	@$(DEPLOY_CHECK) --self-test

deploy-manifests: ## writes deploy/kubernetes/researchflow.yaml anew, from the chart
	@scripts/setup.sh deploy
	@$(DEPLOY_CHECK) --write-manifests

# HAPI's release whose StructureDefinitions the table is made of; all of its releases have R4's.
TYPES_VERSION = 8.8.0
TYPES_ARTIFACT = hapi-fhir-validation-resources-r4
TYPES_TABLE = crates/fhir-core/src/fhirpath/model/r4.txt

types: ## writes the table of FHIR's types anew, from HAPI's StructureDefinitions
	@scripts/setup.sh run
	mvn --batch-mode --quiet dependency:copy -DoutputDirectory=target/types \
		-Dartifact=ca.uhn.hapi.fhir:$(TYPES_ARTIFACT):$(TYPES_VERSION)
	python3 scripts/fhir_types.py target/types/$(TYPES_ARTIFACT)-$(TYPES_VERSION).jar $(TYPES_VERSION) > target/types/table
	mv target/types/table $(TYPES_TABLE)

fmt: ## formats the code
	cargo fmt --all

.PHONY: build
build:
	@scripts/setup.sh run
	cargo build --locked --workspace --bins
