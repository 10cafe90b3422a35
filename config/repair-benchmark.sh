#!/usr/bin/env bash
# What repair costs: three nodes (n = 3), RECORDS small objects. The traffic of a round over copies
# that are in sync; what a node gets that missed MISSED writes; the gets' latency before, while
# all is compared, and while a node that lost its folder is refilled.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
CLUSTER=config/local-cluster.sh
export QUORATE_BIN=${QUORATE_BIN:-${CARGO_TARGET_DIR:-target}/release/quorate}
RECORDS=${RECORDS:-100000}
MISSED=${MISSED:-1000}
FOR=${FOR:-10s}

if [[ -d .local ]]; then
    echo "there is a local cluster already; it would distort the figures: make cluster-clean" >&2
    exit 1
fi
"$CLUSTER" start 3 >/dev/null
trap '"$CLUSTER" clean >/dev/null' EXIT
# shellcheck disable=SC1091
source .local/cluster.env
"$QUORATE_BIN" bucket create repair --level strict --owner "$AWS_ACCESS_KEY_ID" >/dev/null
sleep 3

bench() {
    "$QUORATE_BIN" bench "$@" --endpoint http://127.0.0.1:9000 --endpoint http://127.0.0.1:9010 \
        --bucket repair --size 100B -o json
}
gets() {
    printf '%-34s' "$1"
    bench get --prefix filled/ --keys "$RECORDS" --skip-fill --concurrency 8 --duration "$FOR" |
        python3 -c 'import json, sys
report = json.load(sys.stdin)
got = report["measured"][0]
latency = got["latency_ms"]
print("{:8.0f}/s   p50 {:.1f} ms   p99 {:.1f} ms   failed {}".format(
    got["operations_per_second"], latency["p50"], latency["p99"], sum(report["errors"].values())))'
}
# The sum of a counter over the nodes.
total() {
    "$QUORATE_BIN" repair status -o json |
        python3 -c 'import json,sys; print(sum(n[sys.argv[1]] for n in json.load(sys.stdin)["nodes"]))' "$1"
}
now() { date +%s.%N; }
since() { echo "$(now) - $1" | bc; }
proven() { until "$QUORATE_BIN" status >/dev/null 2>&1; do sleep 0.5; done; }

began=$(now)
bench get --prefix filled/ --keys "$RECORDS" --concurrency 64 --duration 1s >/dev/null 2>&1
echo "$RECORDS objects of 100 B written in $(since "$began") s"
"$QUORATE_BIN" repair start --wait >/dev/null 2>&1
gets "gets before"

sent=$(total bytes_sent)
began=$(now)
"$QUORATE_BIN" repair start --wait >/dev/null 2>&1
echo "in sync: $(($(total bytes_sent) - sent)) bytes for all partitions and pairs, $(since "$began") s"
(while sleep 0.1; do "$QUORATE_BIN" repair start --wait >/dev/null 2>&1; done) &
comparing=$!
gets "gets while all is compared"
kill "$comparing"
wait "$comparing" 2>/dev/null || true

"$CLUSTER" node-kill 3 >/dev/null
sleep 3
bench get --prefix missed/ --keys "$MISSED" --concurrency 8 --duration 1s >/dev/null 2>&1
rows=$(total rows_pulled)
sent=$(total bytes_sent)
"$CLUSTER" node-start 3 >/dev/null
began=$(now)
proven
taken=$(since "$began")
echo "missed $MISSED keys: $(($(total rows_pulled) - rows)) rows moved," \
    "$(($(total bytes_sent) - sent)) bytes, proven $taken s after the start"

"$CLUSTER" node-kill 3 >/dev/null
rm -rf .local/node-3/data
"$CLUSTER" node-start 3 >/dev/null
began=$(now)
gets "gets while a node is refilled"
proven
echo "an emptied node refilled and all proven $(since "$began") s after its start"
gets "gets after"
