"""What the machine boots: Debian's kernel, and an initramfs with the modules that are needed and nothing else."""

from __future__ import annotations

import io
import lzma
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Device", "Kernel", "cpio", "initramfs"]

_BASE = ("virtio_pci", "9pnet_virtio", "9p", "overlay", "virtio_net")
_INIT = Path(__file__).with_name("init.sh")


class Kernel:
    """A kernel package, unpacked: ``image``, and the modules below ``lib/modules``.

    Raises:
        StopIteration: there is none below ``tree``.
    """

    def __init__(self, tree: Path) -> None:
        self.image = next(tree.glob("boot/vmlinuz-*"))
        modules = next(tree.glob("lib/modules/*"))
        self._files = {_key(path.name.split(".ko")[0]): path for path in modules.rglob("*.ko*")}
        self._builtin = _key((modules / "modules.builtin").read_text())

    def closure(self, names: Iterable[str]) -> dict[str, bytes]:
        """Return the named modules, each after all it needs; what is built in is left out."""
        order: dict[str, bytes] = {}

        def add(name: str) -> None:
            if name in order or f"/{name}.ko" in self._builtin:
                return
            data = self._read(name)
            needs = re.search(rb"\0depends=([^\0]*)\0", data)
            for need in needs[1].decode().split(",") if needs else ():
                if need:
                    add(_key(need))
            order[name] = data

        for name in names:
            add(_key(name))
        return order

    def _read(self, name: str) -> bytes:
        path = self._files[name]
        data = path.read_bytes()
        return lzma.decompress(data) if path.suffix == ".xz" else data


def _key(name: str) -> str:
    return name.replace("-", "_")


@dataclass(frozen=True)
class Device:
    """A character device."""

    major: int
    minor: int


def initramfs(kernel: Kernel, busybox: Path, modules: Sequence[str]) -> bytes:
    """Return the archive; ``modules`` are names with arguments behind commas: ``vivid,n_devs=1``."""
    arguments = {_key(module.split(",")[0]): module.split(",")[1:] for module in modules}
    first = kernel.closure(_BASE)
    late = {name: data for name, data in kernel.closure(arguments).items() if name not in first}
    files: dict[str, bytes | Device] = {
        "dev/console": Device(5, 1),
        "bin/busybox": busybox.read_bytes(),
        "init": _INIT.read_bytes(),
    }
    for listing, group in (("boot-modules", first), ("late-modules", late)):
        files.update({f"modules/{name}.ko": data for name, data in group.items()})
        lines = (" ".join([f"/modules/{name}.ko", *arguments.get(name, [])]) for name in group)
        files[listing] = "".join(f"{line}\n" for line in lines).encode()
    return cpio(files)


def cpio(files: Mapping[str, bytes | Device]) -> bytes:
    """Return an archive of the format "newc" (the kernel's driver-api/early-userspace/buffer-format.rst).

    Every file can be executed; folders come before what is in them.
    """
    out = io.BytesIO()
    folders: set[str] = set()
    number = 0

    def put(name: str, mode: int, data: bytes = b"", device: Device = Device(0, 0)) -> None:
        nonlocal number
        number += 1
        raw = name.encode() + b"\0"
        fields = number, mode, 0, 0, 1, 0, len(data), 0, 0, device.major, device.minor, len(raw), 0
        head = b"070701" + b"".join(b"%08X" % value for value in fields) + raw
        out.write(head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4))

    for path, content in files.items():
        parents = [str(parent) for parent in reversed(Path(path).parents)][1:]
        for parent in parents:
            if parent not in folders:
                folders.add(parent)
                put(parent, stat.S_IFDIR | 0o755)
        if isinstance(content, Device):
            put(path, stat.S_IFCHR | 0o600, device=content)
        else:
            put(path, stat.S_IFREG | 0o755, content)
    put("TRAILER!!!", 0)
    return out.getvalue()
