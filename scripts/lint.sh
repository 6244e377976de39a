#!/bin/sh
# All checks that run nothing: format, lints, licences and sources of the dependencies, the contracts, the scripts. Stops at the first that fails.
set -eu

cd "$(dirname "$0")/.."
tools="$(cd "${CARGO_TARGET_DIR:-target}" 2>/dev/null && pwd || echo target)/tools"
PATH="$tools/python/bin:$PATH"

step() { printf '== %s\n' "$*"; "$@"; }

for script in scripts/*.sh .ci/run; do
    sh -n "$script"
done
step cargo fmt --all --check
step cargo clippy --locked --workspace --all-targets --quiet -- -D warnings
step cargo deny --log-level error check licenses bans sources
(cd proto && step buf lint)
printf 'lint: all checks passed\n'
