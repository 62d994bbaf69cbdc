"""Whether the network ports can be had, before anything starts."""

from __future__ import annotations

import errno
import socket

from gazed.config import DaemonConfig
from gazed.errors import ConfigError
from gazed_bus.errors import PortInUse

__all__ = ["check_ports", "try_port"]


def check_ports(wanted: DaemonConfig) -> None:
    """Try every port that is not left to the system.

    Raises:
        PortInUse: another program has one; the message names it and its key.
        ConfigError: the address is not this machine's, or the port is not allowed.
    """
    for key in ("port", "pub_port", "sub_port"):
        port: int = getattr(wanted, key)
        try:
            try_port(wanted.listen, port)
        except OSError as error:
            where = f"daemon.{key}: port {port} on {wanted.listen}"
            if error.errno == errno.EADDRINUSE:
                raise PortInUse(
                    f"{where} is taken by another program",
                    hint=f"another gazed? gazed status --port {port}; a free port: gazed run --set daemon.{key}=0",
                ) from error
            raise ConfigError(
                f"{where} cannot be had: {error.strerror}",
                hint="127.0.0.1 for this machine only, 0.0.0.0 for the whole network; `ip addr` shows the addresses",
            ) from error


def try_port(listen: str, port: int) -> None:
    """Take a port and give it back.

    Raises:
        OSError: it cannot be had.
    """
    with socket.socket() as probe:
        # As libzmq does: connections of an earlier daemon that still linger do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((listen, port))
