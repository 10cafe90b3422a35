#!/usr/bin/env bash
# What an outage costs those who are served: five nodes, a sloppy bucket, two nodes killed under
# load and started again. Puts of 4 KiB before, during, while hints are delivered, and after.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
CLUSTER=config/local-cluster.sh
QUORATE_BIN=${QUORATE_BIN:-${CARGO_TARGET_DIR:-target}/release/quorate}
FOR=${FOR:-10s}
LEVEL=${LEVEL:-eventual}

if [[ -d .local ]]; then
    echo "there is a local cluster already; it would distort the figures: make cluster-clean" >&2
    exit 1
fi
"$CLUSTER" start 5 >/dev/null
trap '"$CLUSTER" clean >/dev/null' EXIT
# shellcheck disable=SC1091
source .local/cluster.env
"$QUORATE_BIN" bucket create outage --level "$LEVEL" --owner "$AWS_ACCESS_KEY_ID" >/dev/null
sleep 3

# Only the nodes that stay are asked.
puts() {
    printf '%-24s' "$1"
    "$QUORATE_BIN" bench put --endpoint http://127.0.0.1:9000 --endpoint http://127.0.0.1:9030 \
        --bucket outage --prefix "$1/" --size 4KiB --concurrency 8 --duration "$FOR" -o json |
        python3 -c 'import json,sys; print(json.dumps(json.load(sys.stdin)))'
}
kept() { "$QUORATE_BIN" hints -o json | python3 -c 'import json,sys; print(sum(h["rows"] for h in json.load(sys.stdin)["hints"]))'; }

puts before
"$CLUSTER" node-kill 2 >/dev/null
"$CLUSTER" node-kill 3 >/dev/null
sleep 5
puts "two nodes away"
echo "rows kept for them: $(kept)"
"$CLUSTER" node-start 2 >/dev/null
"$CLUSTER" node-start 3 >/dev/null
began=$(date +%s.%N)
puts "while they catch up"
while [[ $(kept) != 0 ]]; do sleep 0.5; done
echo "hints gone $(echo "$(date +%s.%N) - $began" | bc) s after they were started"
until "$QUORATE_BIN" status >/dev/null; do sleep 0.5; done
echo "every partition proven $(echo "$(date +%s.%N) - $began" | bc) s after they were started"
puts after
