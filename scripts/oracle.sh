#!/bin/sh
# Compares fhir-core's FHIRPath with fhirpath.js, over crates/fhir-core/oracle. The packages, in the versions of its lock file, go to target/oracle.
set -eu

cd "$(dirname "$0")/.."
folder="$PWD/crates/fhir-core/oracle"
work="${CARGO_TARGET_DIR:-target}/oracle"

mkdir -p "$work"
if ! cmp -s "$folder/package-lock.json" "$work/installed.json"; then
    cp "$folder/package.json" "$folder/package-lock.json" "$work"
    (cd "$work" && npm ci --ignore-scripts --no-audit --no-fund --loglevel error >&2)
    cp "$folder/package-lock.json" "$work/installed.json"
fi
# Where a time has no offset, fhirpath.js takes that of the machine.
(cd "$work" && TZ=UTC node "$folder/peer.mjs" "$folder") >"$work/peer.ndjson"
exec cargo run --locked --quiet --package fhir-core --example oracle -- "$folder" "$work/peer.ndjson"
