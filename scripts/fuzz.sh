#!/bin/sh
# Fuzzes fhir-core: `fuzz.sh <minutes>` for each of its targets, one after the other. What is found lies in fuzz/artifacts; a target's corpus grows in
# target/fuzz/corpus. Needs nightly Rust.
set -eu

cd "$(dirname "$0")/.."
minutes="${1:-10}"
target="$(mkdir -p "${CARGO_TARGET_DIR:-target}" && cd "${CARGO_TARGET_DIR:-target}" && pwd)"
PATH="$target/tools/bin:$PATH"
work="$target/fuzz"

cargo run --locked --quiet --package fhir-core --example fuzz_seeds -- "$work/seeds"
for name in resource view path; do
    mkdir -p "$work/corpus/$name"
    words=fuzz/json.dict length=8192
    [ "$name" = path ] && words=fuzz/path.dict length=2048
    printf 'fuzz: %s, %s minutes\n' "$name" "$minutes"
    # An input that takes two minutes is a finding, and so is one that takes a gigabyte. The sanitizer makes all slower: an evaluation that is stopped by
    # its limit of steps takes some ten seconds here, and an input is evaluated several times.
    cargo +nightly fuzz run --fuzz-dir fuzz --target-dir "$work/build" "$name" "$work/corpus/$name" "$work/seeds/$name" -- \
        -max_total_time="$((minutes * 60))" -max_len="$length" -timeout=120 -rss_limit_mb=1024 -dict="$words" -print_final_stats=1 -verbosity=1 \
        >"$work/$name.log" 2>&1 || {
        tail -n 60 "$work/$name.log"
        printf 'fuzz: a finding in %s: see fuzz/artifacts/%s\n' "$name" "$name"
        exit 1
    }
    grep -E 'DONE|stat::number_of_executed_units|stat::peak_rss_mb' "$work/$name.log"
done
printf 'fuzz: no finding\n'
