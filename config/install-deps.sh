#!/usr/bin/env bash
# Installs what a build needs beside Rust: a C++ compiler for RocksDB, and libclang, with which
# its bindings are made. Says exactly what is missing where it cannot install.
set -euo pipefail

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
