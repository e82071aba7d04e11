#!/usr/bin/env bash
# Installs what the tests need and runs them all; `scripts/test.sh unit` runs the fast ones only.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ "${1:-}" = "-h" ] || [ "${1:-}" = "--help" ]; then
    echo "usage: scripts/test.sh [unit|integration|e2e] [PYTEST ARGUMENTS]"
    echo "With no argument: linter, types, and every test."
    exit 0
fi

which="all"
case "${1:-}" in unit | integration | e2e) which="$1"; shift ;; esac

scripts/setup.sh test
if [ "$which" != unit ] && ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then
    echo "installing PostgreSQL, which the store is tested on"
    if [ "$(id -u)" != 0 ]; then
        echo "error: the tests need PostgreSQL (Debian: sudo apt-get install postgresql)" >&2
        exit 1
    fi
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends postgresql
fi

# Every replica and worker of the tests would compile all modules anew where the environment forbids to keep them.
unset PYTHONDONTWRITEBYTECODE

run() { echo "== $*"; "$@"; }

if [ "$which" = all ]; then
    run .venv/bin/pre-commit run --all-files
    # One after the other, because only one group can run on a machine, and a group runs to the end of its tests.
    parts=(unit integration e2e)
else
    parts=("$which")
fi
for part in "${parts[@]}"; do
    # Unit tests share nothing, so every core takes some.
    spread=()
    if [ "$part" = unit ]; then spread=(-n auto); fi
    run .venv/bin/pytest "tests/$part" "${spread[@]}" "$@"
done
