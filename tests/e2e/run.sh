#!/usr/bin/env bash
# Runs the tests of real clients against real nodes. Installs what is missing: rclone and s3cmd
# from Debian's packages; boto3, the AWS CLI and pytest into a folder of their own.
#
#   QUORATE_BIN=target/release/quorate tests/e2e/run.sh [pytest's arguments]
#   E2E_HEAVY=1 tests/e2e/run.sh -m heavy      # the 5 GiB object
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
VENV=${XDG_CACHE_HOME:-$HOME/.cache}/quorate/e2e-venv
# Versions are bounded so that a new major release of a client does not break a checkout.
PACKAGES=('boto3>=1.40,<2' 'awscli>=1.42,<2' 'awscrt>=0.23,<1' 'pytest>=8,<10'
    'openapi-spec-validator>=0.7,<1')
QUORATE_BIN=${QUORATE_BIN:-${CARGO_TARGET_DIR:-$ROOT/target}/release/quorate}

fail() { printf 'e2e: %s\n' "$*" >&2; exit 1; }

[[ -x "$QUORATE_BIN" ]] || fail "there is no $QUORATE_BIN: make build, or set QUORATE_BIN"
QUORATE_BIN=$(cd "$(dirname "$QUORATE_BIN")" && pwd)/$(basename "$QUORATE_BIN")
export QUORATE_BIN

install_packages() {
    local as_root=()
    command -v apt-get >/dev/null || fail "missing: $*. Install them by your system's means."
    if ((EUID != 0)); then
        command -v sudo >/dev/null ||
            fail "missing: $*. Type as root: apt-get update && apt-get install -y $*"
        as_root=(sudo)
    fi
    echo "e2e: installing $*"
    "${as_root[@]}" apt-get update -qq || true
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
        --no-install-recommends "$@" >/dev/null ||
        fail "apt-get cannot install $*; its message stands above"
}

install_debian() {
    local missing=()
    command -v python3 >/dev/null || missing+=(python3)
    python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
    command -v rclone >/dev/null || missing+=(rclone)
    command -v s3cmd >/dev/null || missing+=(s3cmd)
    if ((${#missing[@]})); then install_packages "${missing[@]}"; fi
}

install_python() {
    local stamp=$VENV/installed
    if [[ -x "$VENV/bin/pytest" && "$(cat "$stamp" 2>/dev/null)" == "${PACKAGES[*]}" ]]; then
        return 0
    fi
    echo "e2e: installing ${PACKAGES[*]} into $VENV"
    mkdir -p "$(dirname "$VENV")"
    python3 -m venv "$VENV" || fail "python3 -m venv $VENV failed"
    "$VENV/bin/pip" install --quiet --disable-pip-version-check "${PACKAGES[@]}" ||
        fail "pip cannot install ${PACKAGES[*]}; its message stands above"
    printf '%s' "${PACKAGES[*]}" >"$stamp"
}

install_debian
install_python
# Folders of a caller's own Python must not shadow the ones that were installed here.
unset PYTHONPATH PYTHONHOME
export PATH="$VENV/bin:$PATH"
cd "$HERE"
exec "$VENV/bin/python" -m pytest "$@"
