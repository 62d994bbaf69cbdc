"""A virtual machine with Debian's kernel, in which this checkout runs next to real drivers.

``machine.py`` fetches and boots it, ``kernel.py`` and ``init.sh`` make what it boots from, ``cable.py`` connects it to
the emulated cameras outside. ``guest_*.py`` are tests that run inside; ``tests/hardware/test_vm.py`` starts them.
"""
