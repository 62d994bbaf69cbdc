#!/bin/sh
# Sets up a checkout of gazed: system libraries (only those that are missing), .venv, locked packages.
# With --export, also what `gazed export` and its kin need, some 1.5 GB more.
# With --tests, all of that, and what the tests need beside it: a sound server of their own, and checkers.
# May be run again at any time.
set -eu
cd "$(dirname "$0")/.."

fail() {
    echo "setup: $1" >&2
    exit 1
}

set_up=${1:-}
record="--no-dev --extra daemon --extra uvc --extra audio --extra lsl --extra detect"
case "$set_up" in
"") packages=$record ;;
--export) packages="$record --extra export --extra nwb --extra rerun --extra batch" ;;
--tests) packages="--all-extras" ;;
*) fail "wanted --export, --tests or nothing, found $set_up" ;;
esac

missing=""
want() { # want SONAME PACKAGE
    { ldconfig -p 2>/dev/null || /sbin/ldconfig -p; } | grep -q "$1" || missing="$missing $2"
}

want_file() { # want_file PATTERN PACKAGE...: no file fits the pattern, which the shell expands
    pattern=$1
    shift
    for file in $pattern; do [ -e "$file" ] && return; done
    missing="$missing $*"
}

fits() { # fits PYTHON: a version that gazed runs on
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

python=""
for candidate in python3.11 python3.12 python3.13 python3; do
    if fits "$candidate"; then
        python=$candidate
        break
    fi
done
[ -n "$python" ] || fail "wanted Python 3.11, 3.12 or 3.13 in PATH and found none"

named=$(basename "$(readlink -f "$(command -v "$python")")")

want libGL.so.1 libgl1
want libglib-2.0.so.0 libglib2.0-0
want libportaudio.so.2 libportaudio2
# The 3D eye model is built here: its wheel is for an older numpy.
command -v c++ >/dev/null || missing="$missing g++"
want_file /usr/include/eigen3/Eigen/Core libeigen3-dev
want_file "$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" "$named-dev"
if [ "$set_up" = --tests ]; then
    want_file /usr/bin/pulseaudio pulseaudio
    want_file /usr/bin/pacat pulseaudio-utils
    want_file '/usr/lib/*/alsa-lib/libasound_module_pcm_pulse.so' libasound2-plugins
fi
if [ ! -x .venv/bin/pip ] && ! "$python" -c 'import ensurepip' 2>/dev/null; then
    missing="$missing $named-venv"
fi

if [ -n "$missing" ]; then
    command -v apt-get >/dev/null || fail "please install these, or what your system calls them:$missing"
    sudo=""
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || fail "as root, run: apt-get install -y$missing"
        sudo=sudo
    fi
    $sudo apt-get update -qq
    # shellcheck disable=SC2086 - a list of names
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
fi

[ -x .venv/bin/pip ] || "$python" -m venv .venv
[ -x .venv/bin/uv ] || .venv/bin/pip install --quiet --disable-pip-version-check 'uv>=0.8,<1'
# --inexact keeps uv itself, which the lock does not list.
# shellcheck disable=SC2086 - options
UV_PROJECT_ENVIRONMENT=.venv .venv/bin/uv sync --quiet --locked --inexact $packages
echo "setup: done; try .venv/bin/gazed --help"
