#!/usr/bin/env bash
# Installs what a build needs beside Rust: a C++ compiler for RocksDB, and libclang, with which
# its bindings are made. Says exactly what is missing where it cannot install.
#
# With the argument `faults` it installs what the partition tests use beside that. Nothing of it
# must be there: what cannot be installed is named, and what needs it is skipped later.
set -euo pipefail

faults() {
    local packages=()
    command -v ip >/dev/null || packages+=(iproute2)
    command -v unshare >/dev/null && command -v nsenter >/dev/null || packages+=(util-linux)
    command -v mount >/dev/null || packages+=(mount)
    [[ -x /sbin/mkfs.ext4 ]] || command -v mkfs.ext4 >/dev/null || packages+=(e2fsprogs)
    compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null || packages+=(libfaketime)
    ((${#packages[@]} == 0)) && return
    if ((EUID == 0)) && command -v apt-get >/dev/null; then
        echo "deps: installing ${packages[*]}"
        local get=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=0)
        local install=("${get[@]}" install -y --no-install-recommends "${packages[@]}")
        "${install[@]}" 2>/dev/null && return
        "${get[@]}" update && "${install[@]}" && return
    fi
    echo "deps: not installed: ${packages[*]} (Debian's names). Faults that need them are" \
        "skipped. Type as root: apt-get install ${packages[*]}" >&2
}

if [[ "${1:-}" == faults ]]; then
    faults
    exit 0
fi

have_libclang() {
    [[ -n "${LIBCLANG_PATH:-}" ]] && return 0
    ldconfig -p 2>/dev/null | grep -q 'libclang[-.0-9]*\.so' && return 0
    # Not libclang-cpp.so, which is another library.
    compgen -G '/usr/lib/llvm-*/lib/libclang[-.][s0-9]*' >/dev/null
}

missing=()
command -v c++ >/dev/null || missing+=(g++)
command -v make >/dev/null || missing+=(make)
have_libclang || missing+=(libclang)
if ((${#missing[@]} == 0)); then
    exit 0
fi

# Debian 12 has a version of its own for it; where that is not known, the plain name is.
clang_package() {
    apt-cache show libclang-14-dev >/dev/null 2>&1 && echo libclang-14-dev || echo libclang-dev
}

if ! command -v apt-get >/dev/null; then
    echo "deps: missing: ${missing[*]}. Install a C++ compiler, make and libclang" \
        "(Debian: g++ make libclang-14-dev; Fedora: gcc-c++ make clang-devel)." >&2
    exit 1
fi
as_root=()
if ((EUID != 0)); then
    if ! command -v sudo >/dev/null; then
        echo "deps: missing: ${missing[*]}. Type as root:" \
            "apt-get update && apt-get install -y g++ make libclang-14-dev" >&2
        exit 1
    fi
    as_root=(sudo)
fi
echo "deps: installing ${missing[*]}"
"${as_root[@]}" apt-get update -qq
packages=()
for name in "${missing[@]}"; do
    [[ "$name" == libclang ]] && packages+=("$(clang_package)") || packages+=("$name")
done
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
    --no-install-recommends "${packages[@]}"
