#!/usr/bin/env bash
# Builds FerretDB for the tests, once: the binary is kept in the user's cache under the checksum of its sources.
#   build.sh          builds what is missing, and prints where it is
#   build.sh --where  prints where it is or would be
# Needs Go 1.24 (or 1.21 and permission to fetch a newer toolchain) and a Go module proxy. No cgo, so no C compiler.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/onesource"
binary="$cache/ferretdb-1.24.2-$(cat main.go go.mod go.sum | cksum | cut -d' ' -f1)"
if [ "${1:-}" = --where ] || [ -x "$binary" ]; then
  echo "$binary"
  exit 0
fi
PATH="$PATH:/usr/local/go/bin"
command -v go >/dev/null || { echo "Go is not installed" >&2; exit 3; }
version=$(go env GOVERSION)
[[ "$version" =~ ^go1\.(2[1-9]|[3-9][0-9]) ]] || { echo "$version is too old: FerretDB needs Go 1.24" >&2; exit 3; }
mkdir -p "$cache"
exec 9>"$cache/ferretdb.lock"
if command -v flock >/dev/null; then flock 9; fi
if [ ! -x "$binary" ]; then
  CGO_ENABLED=0 go build -mod=readonly -buildvcs=false -tags ferretdb_no_postgresql -trimpath -ldflags='-s -w' \
    -o "$binary.$$" .
  mv "$binary.$$" "$binary"
fi
echo "$binary"
