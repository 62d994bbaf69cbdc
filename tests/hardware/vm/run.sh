#!/bin/sh
# Tier V: fetches the virtual machine by apt, once, and runs the tests in it. Nothing is installed; half a gigabyte goes
# to $GAZED_VM, or to ~/.cache/gazed/vm. GAZED_VM_ACCEL=kvm is faster where there is a KVM that runs a stock kernel.
set -e
cd "$(dirname "$0")/../../.."
python=${PYTHON:-.venv/bin/python}
case $python in /*) ;; */*) python=$PWD/$python ;; esac
if [ ! -e "${GAZED_VM:-$HOME/.cache/gazed/vm}/udev/lib" ]; then
    (cd tests/hardware && "$python" -m vm.machine fetch)
fi
exec "$python" -m pytest -m vm tests/hardware/test_vm.py "$@"
