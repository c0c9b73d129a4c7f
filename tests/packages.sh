#!/bin/bash
# SPDX-License-Identifier: MIT
#
# packages.sh LOG PACKAGE...: installs these packages and those of the build, if one is missing.
# Needs root.
set -euo pipefail
cd "$(dirname "$0")/.."
unset MAKEFLAGS MAKELEVEL

log=$1
shift
read -ra build <<<"$(make -s --no-print-directory packages)"
packages=("$@" "${build[@]}")
present=$(dpkg-query -W -f '${db:Status-Status}\n' "${packages[@]}" 2>/dev/null |
    grep -cx installed || true)
[ "$present" -lt ${#packages[@]} ] || exit 0
printf '%s installing packages\n' "$(date +%H:%M:%S)"
export DEBIAN_FRONTEND=noninteractive
{
    apt-get -o Acquire::Retries=3 update
    apt-get -o Acquire::Retries=3 install -y --no-install-recommends "${packages[@]}"
} >"$log" 2>&1 || {
    tail -n 20 "$log"
    exit 1
}
