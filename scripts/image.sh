#!/bin/sh
# Builds the images of the three daemons from the commit that is checked out: `image.sh [registry/prefix]`, by default researchflow. What is not committed is not in
# them. Dependencies are vendored first, from the lock file, so that nothing but the two base images (and libclang, for the compiler) is fetched while building.
# VENDOR=0 leaves that out: then Cargo fetches inside the build. BUILD_IMAGE and RUNTIME_IMAGE take the place of the base images of deploy/Dockerfile.
set -eu

cd "$(dirname "$0")/.."
prefix="${1:-researchflow}"

say() { printf '%s\n' "image: $*" >&2; }
has() { command -v "$1" >/dev/null 2>&1; }

builder=""
for tool in docker podman buildah; do
    # A client without its engine cannot build.
    if has "$tool" && "$tool" info >/dev/null 2>&1; then
        builder="$tool"
        break
    fi
done
if [ -z "$builder" ]; then
    say "no docker, podman or buildah that works is here; on Debian: apt-get install buildah (it needs no service), then run this again"
    exit 1
fi

version="$(sed -n '/^\[workspace.package\]/,/^\[/ s/^version = "\(.*\)"/\1/p' Cargo.toml)"
commit="$(git rev-parse HEAD)"
created="$(TZ=UTC git show --no-patch --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd HEAD)"
context="${CARGO_TARGET_DIR:-target}/image"
[ -z "$(git status --porcelain)" ] || say "there are changes that are not committed: they are not in the images"

rm -rf "$context"
mkdir -p "$context"
git archive "$commit" | tar -x -C "$context"
if [ "${VENDOR:-1}" != 0 ]; then
    say "vendoring what the lock file names"
    (cd "$context" && cargo vendor --locked --versioned-dirs vendor >/dev/null)
fi

for daemon in batch-refresher speed-ingestor serving-gateway; do
    say "$prefix/$daemon:$version by $builder"
    set -- --file "$context/deploy/Dockerfile" --target "$daemon" --tag "$prefix/$daemon:$version" \
        --build-arg "VERSION=$version" --build-arg "COMMIT=$commit" --build-arg "CREATED=$created"
    [ -z "${BUILD_IMAGE:-}" ] || set -- "$@" --build-arg "BUILD_IMAGE=$BUILD_IMAGE"
    [ -z "${RUNTIME_IMAGE:-}" ] || set -- "$@" --build-arg "RUNTIME_IMAGE=$RUNTIME_IMAGE"
    "$builder" build "$@" "$context"
done
