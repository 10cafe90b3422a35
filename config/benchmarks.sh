#!/usr/bin/env bash
# The figures of docs/benchmarks.md: a fresh local cluster of three nodes, objects of several
# sizes, 16 clients over all three nodes; what it stored is removed afterwards.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
CLUSTER=config/local-cluster.sh
QUORATE_BIN=${QUORATE_BIN:-${CARGO_TARGET_DIR:-target}/release/quorate}
FOR=${FOR:-8s}

if [[ -d .local ]]; then
    echo "there is a local cluster already; it would distort the figures: make cluster-clean" >&2
    exit 1
fi
"$CLUSTER" start 3 >/dev/null
trap '"$CLUSTER" clean >/dev/null' EXIT
# shellcheck disable=SC1091
source .local/cluster.env

pids() { cat .local/node-*/pid; }
memory() { for pid in $(pids); do awk -v what="$1" '$1 == what":" { printf "%d MiB  ", $2 / 1024 }' "/proc/$pid/status"; done; }
run() {
    # shellcheck disable=SC2046
    "$QUORATE_BIN" bench "$@" --endpoint http://127.0.0.1:9000 --endpoint http://127.0.0.1:9010 \
        --endpoint http://127.0.0.1:9020 --bucket bench --pid $(pids) 2>/dev/null | grep -v '^$'
}

echo "idle after start: $(memory VmRSS)resident"
"$QUORATE_BIN" key list >/dev/null
python3 - <<'PY' 2>/dev/null || aws s3 mb s3://bench >/dev/null
import boto3
boto3.client("s3").create_bucket(Bucket="bench")
PY
for size in 2KiB 4KiB 1MiB 10MiB; do
    run put --prefix "$size/" --size "$size" --concurrency 16 --duration "$FOR"
    keys=$([[ $size == *MiB ]] && echo 64 || echo 2000)
    run get --prefix "get-$size/" --size "$size" --keys "$keys" --concurrency 16 --duration "$FOR"
done
run list --prefix "4KiB/" --concurrency 4 --duration "$FOR"
echo "highest since start: $(memory VmHWM)resident"
