#!/usr/bin/env bash
# A cluster of several nodes on this machine, under .local/. Called by the Makefile.
#
# Node i (from 1) has its ports at 10 (i - 1) above the first node's: S3 9000, admin 9001,
# peers 9002/udp, S3 over TLS 9003, KV 9004. Its folder is .local/node-i/: quorate.toml, data/, log, pid.
# Processes are known by the pid that was recorded when they were started, and only if that pid
# still runs this program with this configuration.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
ROOT=$PWD
LOCAL=$ROOT/.local
BIN=${QUORATE_BIN:-${CARGO_TARGET_DIR:-$ROOT/target}/release/quorate}
NODES_MAX=50
# How long a node may take to come up, and a cluster to become healthy, in tenths of a second.
PATIENCE=600

say() { printf '%s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

port() { echo $((9000 + 10 * ($1 - 1) + $2)); }
folder() { echo "$LOCAL/node-$1"; }

# The nodes that have a folder, in order.
known_nodes() {
    local path
    for path in "$LOCAL"/node-*/quorate.toml; do
        if [[ -e "$path" ]]; then
            basename "$(dirname "$path")" | cut -d- -f2
        fi
    done | sort -n
}

# Prints the pid of node $1 if it runs. A pid that another program got since is stale.
running() {
    local pid_file pid
    pid_file=$(folder "$1")/pid
    [[ -s "$pid_file" ]] || return 1
    pid=$(<"$pid_file")
    [[ "$pid" =~ ^[0-9]+$ && -r "/proc/$pid/cmdline" ]] || return 1
    tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | grep -qxF "$(folder "$1")/quorate.toml" ||
        return 1
    # A zombie has no command line, but be sure.
    ! grep -q '^State:[[:space:]]*Z' "/proc/$pid/status" 2>/dev/null || return 1
    echo "$pid"
}

require_node() {
    [[ "${1:-}" =~ ^[1-9][0-9]*$ ]] || fail "which node? give I, for instance: make $2 I=2"
    [[ -e "$(folder "$1")/quorate.toml" ]] ||
        fail "there is no node $1 here; nodes: $(known_nodes | tr '\n' ' ')(make cluster makes them)"
}

random_hex() { od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'; }

healthy() { curl -fsS -m 2 -o /dev/null "http://127.0.0.1:$(port "$1" 1)/health/$2" 2>/dev/null; }

# Writes the configuration of node $1 of $2.
configure() {
    local i=$1 n=$2 dir peers="" j zones=(a b c)
    dir=$(folder "$i")
    mkdir -p "$dir/data"
    for ((j = 1; j <= n; j++)); do
        ((j == i)) || peers+="\"127.0.0.1:$(port "$j" 2)\", "
    done
    (umask 077 && cat >"$dir/quorate.toml") <<TOML
# Node $i of a local cluster; written by config/local-cluster.sh. Every key: config/quorate.toml
[node]
name = "n$i"
zone = "zone-${zones[$(((i - 1) % 3))]}"
capacity = "10GiB"
data_dir = "$dir/data"

[cluster]
secret_file = "$LOCAL/secret"
peers = [${peers%, }]

[peer]
listen = "127.0.0.1:$(port "$i" 2)"
advertise = "127.0.0.1:$(port "$i" 2)"

[s3]
listen = "127.0.0.1:$(port "$i" 0)"
tls_listen = "127.0.0.1:$(port "$i" 3)"

[kv]
listen = "127.0.0.1:$(port "$i" 4)"

[admin]
listen = "127.0.0.1:$(port "$i" 1)"
token_file = "$LOCAL/admin-token"
TOML
}

start_node() {
    local i=$1 dir pid
    dir=$(folder "$i")
    if pid=$(running "$i"); then
        say "node $i runs already (pid $pid)"
        return 0
    fi
    rm -f "$dir/pid"
    rm -f "$dir/pid"
    # A session of its own, so that a Ctrl-C in this terminal does not reach it; the
    # environment's QUORATE_SECTION__KEY would override all nodes alike, so it is left out.
    local clean=() name
    while IFS= read -r name; do clean+=(-u "$name"); done \
        < <(compgen -e | grep '^QUORATE_.*__' || true)
    env "${clean[@]}" setsid --fork bash -c 'echo $$ >"$1"; exec "$2" server --config "$3"' \
        quorate-start "$dir/pid" "$BIN" "$dir/quorate.toml" >>"$dir/log" 2>&1 </dev/null
}

# Waits until node $1 answers; a node that ended shows the end of its log.
wait_live() {
    local i=$1 k
    for ((k = 0; k < PATIENCE; k++)); do
        healthy "$i" live && return 0
        if [[ -s "$(folder "$i")/pid" ]] && ! running "$i" >/dev/null; then
            tail -n 5 "$(folder "$i")/log" >&2
            fail "node $i ended; its log: $(folder "$i")/log"
        fi
        sleep 0.1
    done
    fail "node $i did not come up; its log: $(folder "$i")/log"
}

wait_healthy() {
    local i=$1 what=$2 k
    for ((k = 0; k < PATIENCE; k++)); do
        healthy "$i" "$what" && return 0
        sleep 0.1
    done
    fail "node $i is not healthy ($what): quorate status, or $(folder "$i")/log"
}

# Ends node $1 with signal $2 and waits until it is gone.
end_node() {
    local i=$1 signal=$2 pid k
    if ! pid=$(running "$i"); then
        rm -f "$(folder "$i")/pid"
        say "node $i does not run"
        return 0
    fi
    kill "-$signal" "$pid" 2>/dev/null || true
    for ((k = 0; k < 400; k++)); do
        if ! running "$i" >/dev/null; then
            rm -f "$(folder "$i")/pid"
            say "node $i ended (pid $pid, SIG$signal)"
            return 0
        fi
        sleep 0.1
    done
    fail "node $i (pid $pid) does not end after 40 s; make node-kill I=$i"
}

write_env() {
    local key_id=$1 secret=$2
    (umask 077 && cat >"$LOCAL/cluster.env") <<ENV
export AWS_ENDPOINT_URL=http://127.0.0.1:$(port 1 0)
export AWS_ACCESS_KEY_ID=$key_id
export AWS_SECRET_ACCESS_KEY=$secret
export AWS_DEFAULT_REGION=us-east-1
export QUORATE_KV_URL=http://127.0.0.1:$(port 1 4)
export QUORATE_ADMIN_URL=http://127.0.0.1:$(port 1 1)
export QUORATE_ADMIN_TOKEN=$(<"$LOCAL/admin-token")
ENV
}

# First start: the first layout and a credential.
found_cluster() {
    local n=$1 key_id secret
    export QUORATE_ADMIN_URL="http://127.0.0.1:$(port 1 1)"
    QUORATE_ADMIN_TOKEN=$(<"$LOCAL/admin-token")
    export QUORATE_ADMIN_TOKEN
    # A start that was broken off may have got this far: status says so.
    local status
    status=$("$BIN" status -o json 2>/dev/null || true) # 3 and 4 are warnings, not failures
    if [[ "$status" == *'"cluster_id": null'* ]]; then
        "$BIN" cluster init --expect "$n" >/dev/null
    fi
    wait_healthy 1 ready
    key_id="QK$(random_hex 9 | tr a-f A-F)"
    secret=$(random_hex 20)
    "$BIN" key create local --access-key-id "$key_id" --secret-access-key "$secret" >/dev/null
    write_env "$key_id" "$secret"
}

explain() {
    local i nodes
    nodes=$(known_nodes)
    say ""
    say "  node  S3                     S3 over TLS             KV                     admin                  log"
    for i in $nodes; do
        printf '  n%-4s http://127.0.0.1:%-5s https://127.0.0.1:%-5s http://127.0.0.1:%-5s http://127.0.0.1:%-5s %s\n' \
            "$i" "$(port "$i" 0)" "$(port "$i" 3)" "$(port "$i" 4)" "$(port "$i" 1)" \
            ".local/node-$i/log"
    done
    # shellcheck disable=SC1091
    source "$LOCAL/cluster.env"
    say ""
    say "Paste:"
    say "  source .local/cluster.env"
    say "or all in one line:"
    say "  AWS_ACCESS_KEY_ID=$AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY=$AWS_SECRET_ACCESS_KEY" \
        "AWS_DEFAULT_REGION=$AWS_DEFAULT_REGION aws --endpoint-url $AWS_ENDPOINT_URL s3 mb s3://first"
    say ""
    say "Next: make cluster-status, make node-kill I=2, make cluster-stop, make cluster-clean"
}

start() {
    local n=${1:-3} i there
    [[ "$n" =~ ^[1-9][0-9]*$ ]] && ((n <= NODES_MAX)) || fail "NODES must be 1 to $NODES_MAX"
    [[ -x "$BIN" ]] || fail "there is no $BIN: make build"
    command -v curl >/dev/null || fail "curl is needed: apt-get install curl"
    there=$(known_nodes | wc -l)
    if ((there > 0 && there != n)); then
        fail "there is a cluster of $there nodes here: make cluster NODES=$there," \
            "or make cluster-clean first"
    fi
    mkdir -p "$LOCAL"
    for name in secret admin-token; do
        [[ -s "$LOCAL/$name" ]] || (umask 077 && random_hex 32 >"$LOCAL/$name")
    done
    local up=0
    for ((i = 1; i <= n; i++)); do
        if running "$i" >/dev/null; then up=$((up + 1)); fi
    done
    if ((up == n)) && [[ -s "$LOCAL/cluster.env" ]]; then
        say "the cluster of $n nodes is up already"
        explain
        return 0
    fi
    for ((i = 1; i <= n; i++)); do
        [[ -e "$(folder "$i")/quorate.toml" ]] || configure "$i" "$n"
        start_node "$i"
    done
    for ((i = 1; i <= n; i++)); do wait_live "$i"; done
    [[ -s "$LOCAL/cluster.env" ]] || found_cluster "$n"
    for ((i = 1; i <= n; i++)); do wait_healthy "$i" ready; done
    wait_healthy 1 cluster
    say "the cluster of $n nodes is up and healthy"
    explain
}

stop() {
    local i
    [[ -n "$(known_nodes)" ]] || { say "there is no cluster here"; return 0; }
    for i in $(known_nodes); do end_node "$i" TERM; done
}

clean() {
    stop
    rm -rf "$LOCAL"
    say "removed .local"
}

with_env() {
    [[ -s "$LOCAL/cluster.env" ]] || fail "there is no cluster here: make cluster"
    # shellcheck disable=SC1091
    source "$LOCAL/cluster.env"
}

bench() {
    with_env
    local i pid pids=() endpoints=()
    unset AWS_ENDPOINT_URL
    for i in $(known_nodes); do
        endpoints+=(--endpoint "http://127.0.0.1:$(port "$i" 0)")
        if pid=$(running "$i"); then pids+=(--pid "$pid"); fi
    done
    "$BIN" bench "$@" "${endpoints[@]}" "${pids[@]}"
}

command=${1:-}
shift || true
case "$command" in
start) start "$@" ;;
stop) stop ;;
clean) clean ;;
status) with_env && "$BIN" status ;;
node-stop) require_node "${1:-}" node-stop && end_node "$1" TERM ;;
node-kill) require_node "${1:-}" node-kill && end_node "$1" KILL ;;
node-start)
    require_node "${1:-}" node-start
    start_node "$1"
    wait_live "$1"
    wait_healthy "$1" ready
    say "node $1 is ready (pid $(running "$1"))"
    ;;
bench) bench "$@" ;;
*) fail "usage: $0 start N | stop | clean | status | node-stop I | node-kill I | node-start I | bench ..." ;;
esac
