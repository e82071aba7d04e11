#!/usr/bin/env bash
# Stops the group that scripts/start.sh started, and its Ray.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ ! -x .venv/bin/python ]; then
    echo "nothing runs"
    exit 0
fi
exec .venv/bin/python -m serve.launch down
