#!/usr/bin/env bash
# A few minutes of fault tests, for continuous integration: jepsen/slice.sh RUNNER SERVER [SEED].
# What this machine cannot do is skipped and said to be; that everything was skipped is a failure.
set -uo pipefail

runner=$1
server=$2
seed=${3:-1}
# How the runner ends if it had to skip.
skipped_code=77
held=()
skipped=()
broke=()

attempt() {
    local code
    printf '\n--- %s\n' "$*"
    "$runner" "$@" --seed "$seed" --binary "$server"
    code=$?
    case $code in
        0) held+=("$*") ;;
        "$skipped_code") skipped+=("$*") ;;
        *) broke+=("$*") ;;
    esac
}

attempt kill-one --seconds 20
attempt kill-all --seconds 20
attempt split-sides --seconds 15
attempt run register cdp --seconds 25
attempt run list x --seconds 20
attempt run siblings sm --seconds 20
attempt run lww p --seconds 15

printf '\n%d held, %d broke, %d were skipped\n' ${#held[@]} ${#broke[@]} ${#skipped[@]}
for one in "${broke[@]}"; do printf 'BROKE: %s\n' "$one"; done
for one in "${skipped[@]}"; do printf 'SKIPPED: %s\n' "$one"; done
((${#broke[@]} == 0 && ${#held[@]} > 0))
