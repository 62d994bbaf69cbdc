"""The virtual machine: fetched by apt without being installed, booted in seconds, gone afterwards.

    python -m vm.machine fetch                                       (in tests/hardware)
    python -m vm.machine run [--module vivid,n_devs=1] -- COMMAND    e.g. -- ls -l /dev/video0

The guest sees the host's files read-only under a scratch layer, so that the same Python and the same checkout run
there. It needs neither root, nor KVM (without it the processor is emulated), nor a disk image, nor a network.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vm.kernel import Kernel, initramfs

__all__ = ["Machine", "MachineError", "Outcome", "fetch", "vm_folder"]

_CONSOLE = "console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=1 tsc=reliable"
_BOOT_S = 60.0
_MEMORY_MB = 2048


class MachineError(Exception):
    """The machine did not come up, or did not end in time."""


@dataclass(frozen=True)
class Outcome:
    """What a command in the guest left: its exit status, what it printed, and the seconds that all of it took."""

    status: int
    log: str
    took_s: float


def vm_folder() -> Path:
    """Return where the parts of the machine lie: ``GAZED_VM``, or ``~/.cache/gazed/vm``."""
    return Path(os.environ.get("GAZED_VM", "~/.cache/gazed/vm")).expanduser().absolute()


def fetch(folder: Path) -> None:
    """Download qemu, a kernel, busybox and udev as Debian packages and unpack them in ``folder``; half a gigabyte."""
    kernels = _apt("apt-cache", "depends", "linux-image-amd64").split()
    kernel = next(word for word in kernels if word.startswith("linux-image-") and word != "linux-image-amd64")
    for target, packages in (
        (folder, [*_needed("qemu-system-x86"), "busybox-static", kernel]),
        (folder / "udev", ["udev"]),
    ):
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as debs:
            _apt("apt-get", "download", "-q", *packages, folder=debs)
            for deb in sorted(Path(debs).glob("*.deb")):
                subprocess.run(["dpkg", "-x", deb, target], check=True)


def _needed(package: str) -> list[str]:
    """Return what installing a package would install on this system."""
    plan = _apt("apt-get", "install", "-s", "--no-install-recommends", package)
    return [line.split()[1] for line in plan.splitlines() if line.startswith("Inst")]


def _apt(*command: str, folder: str | None = None) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MachineError(f"{shlex.join(command)}: {done.stderr.strip()}; is `apt-get update` needed?")
    return done.stdout


class Machine:
    """A machine that boots from ``folder`` (see ``fetch``) with the given kernel modules.

    Args:
        folder: what ``fetch`` filled.
        modules: names of kernel modules, arguments behind commas.
        accel: ``tcg`` emulates the processor; ``kvm`` is fast where there is one that runs a stock kernel.

    Raises:
        MachineError: the folder is not complete.
    """

    def __init__(self, folder: Path, modules: Sequence[str] = (), accel: str = "tcg") -> None:
        self._folder = folder
        self._accel = accel
        qemu = folder / "usr/bin/qemu-system-x86_64"
        self._qemu = str(qemu) if qemu.exists() else shutil.which("qemu-system-x86_64")
        try:
            self._kernel = Kernel(folder)
            self._initrd = initramfs(self._kernel, folder / "bin/busybox", modules)
        except (OSError, StopIteration) as error:
            raise MachineError(f"{folder} holds no machine: {error!r}") from error
        if self._qemu is None:
            raise MachineError(f"{folder} holds no machine: there is no qemu")

    def run(self, command: str, out: Path, timeout: float = 300.0) -> Outcome:
        """Boot, run a command line of ``sh`` as root, and power off.

        ``out`` is a folder that both sides may write; the guest has it as ``/out``, and its ``console`` and ``log``
        stay there. A boot that hangs, as about one in a hundred does on a busy host, is tried once again.

        Raises:
            MachineError: it did not come up, or the command took longer than ``timeout`` seconds.
        """
        start = time.monotonic()
        out.mkdir(parents=True, exist_ok=True)
        head = "export PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp PYTHONDONTWRITEBYTECODE=1\ncd /out\n"
        (out / "command").write_text(f"{head}{command}\n")
        for last in (False, True):
            (out / "status").unlink(missing_ok=True)
            booted = self._boot(out, start + timeout)
            if (out / "status").exists():
                status = int((out / "status").read_text())
                return Outcome(status, _text(out / "log"), time.monotonic() - start)
            if booted or last:
                what = f"the command took longer than {timeout:.0f} s" if booted else "the machine did not come up"
                raise MachineError(
                    f"{what}; its end was:\n{_text(out / 'console')[-2000:]}\n{_text(out / 'log')[-6000:]}"
                )
        raise AssertionError("the second attempt is the last")

    def _boot(self, out: Path, deadline: float) -> bool:
        """Run the machine to its end; tell whether it came up."""
        console = out / "console"
        console.write_bytes(b"")
        up_until = min(deadline, time.monotonic() + _BOOT_S)
        up = False
        with tempfile.NamedTemporaryFile() as initrd:
            initrd.write(self._initrd)
            initrd.flush()
            machine = subprocess.Popen(self._command(initrd.name, out), env=self._environment())
            try:
                while machine.poll() is None and time.monotonic() < (deadline if up else up_until):
                    time.sleep(0.05)
                    up = up or b"vm: up" in console.read_bytes()
            finally:
                machine.kill()
                machine.wait()
        return up

    def _environment(self) -> dict[str, str]:
        libraries = f"{self._folder}/usr/lib/x86_64-linux-gnu:{self._folder}/lib/x86_64-linux-gnu"
        return {**os.environ, "LD_LIBRARY_PATH": libraries}

    def _command(self, initrd: str, out: Path) -> list[str]:
        share = self._folder / "usr/share"
        return [
            str(self._qemu),
            *("-L", f"{share}/qemu", "-L", f"{share}/seabios"),
            *("-M", "q35", "-cpu", "max", "-smp", "2", "-m", str(_MEMORY_MB)),
            *("-accel", "tcg,thread=multi" if self._accel == "tcg" else self._accel),
            *("-nodefaults", "-display", "none", "-no-reboot"),
            *("-kernel", str(self._kernel.image), "-initrd", initrd, "-append", _CONSOLE),
            *("-serial", f"file:{out}/console"),
            *("-netdev", "user,id=n", "-device", "virtio-net-pci,netdev=n,romfile="),
            *("-fsdev", "local,id=h,path=/,security_model=none,readonly=on,multidevs=remap"),
            *("-device", "virtio-9p-pci,fsdev=h,mount_tag=host"),
            *("-fsdev", f"local,id=o,path={out},security_model=none,multidevs=remap"),
            *("-device", "virtio-9p-pci,fsdev=o,mount_tag=out"),
        ]


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def _main() -> int:
    parser = argparse.ArgumentParser(description="A virtual machine with real kernel drivers.")
    parser.add_argument("verb", choices=("fetch", "run"))
    parser.add_argument("--module", action="append", default=[])
    parser.add_argument("--accel", default="tcg", choices=("tcg", "kvm"))
    before, _, command = " ".join(map(shlex.quote, sys.argv[1:])).partition(" -- ")
    wanted = parser.parse_args(shlex.split(before))
    if wanted.verb == "fetch":
        fetch(vm_folder())
        return 0
    with tempfile.TemporaryDirectory() as out:
        outcome = Machine(vm_folder(), wanted.module, wanted.accel).run(command, Path(out))
    print(outcome.log, end="")
    print(f"status {outcome.status}, {outcome.took_s:.1f} s in all", file=sys.stderr)
    return outcome.status


if __name__ == "__main__":
    sys.exit(_main())
