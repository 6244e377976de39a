# The commands of this project; those that build, test or check install what they need first. What they do lies in scripts/ and in tests/.
.DEFAULT_GOAL := help
.PHONY: help demo up down test lint fmt conformance

# Folder of .ndjson.gz to load in place of generated patients.
DATA ?=
# 1: demo leaves the stack running.
KEEP ?=
DEV = "$${CARGO_TARGET_DIR:-target}"/debug/dev

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

demo: build ## a resource's way from HAPI to an answer, told step by step; DATA=<folder of .ndjson.gz>, KEEP=1
	@$(DEV) demo $(if $(DATA),--data "$(DATA)") $(if $(filter 1,$(KEEP)),--keep)

up: build ## starts the stack in the background; its addresses are in target/dev/endpoints.env
	@$(DEV) up $(if $(DATA),--data "$(DATA)")

down: ## ends what `make up` or `make demo KEEP=1` left running
	@$(DEV) down

test: build ## all tests
	cargo test --locked --workspace -- --show-output

lint: ## all checks: format, clippy, licences, contracts
	@scripts/setup.sh lint
	@scripts/lint.sh

conformance: ## a SQL on FHIR suite: SUITE=<folder>
	@cargo run --locked --quiet --package fhir-core --example conformance -- "$(SUITE)"

fmt: ## formats the code
	cargo fmt --all

.PHONY: build
build:
	@scripts/setup.sh run
	cargo build --locked --workspace --bins
