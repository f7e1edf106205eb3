"""Which network interface the ranks of a trial talk through."""

from __future__ import annotations

import fcntl
import os
import socket
import struct

from cpsc_core.errors import RankError

__all__ = ["choose_interface", "interface_of"]

_SIOCGIFADDR = 0x8915
_GLOO, _NCCL = "GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"


def choose_interface(name: str | None, address: str) -> None:
    """Have gloo and NCCL use the interface of a name; call before the ranks connect.

    Without a name NCCL chooses for itself, and gloo uses the interface that has this machine's address: it
    would take the one that the machine's name stands for, often the loopback, which nobody else can reach.
    Raises RankError, with the names that there are, if there is no such interface.
    """
    if name is None:
        if _GLOO not in os.environ and (found := interface_of(address)) is not None:
            os.environ[_GLOO] = found
        return
    there = sorted(each for _, each in socket.if_nameindex())
    if name not in there:
        raise RankError(
            f"{socket.gethostname()} has no network interface {name!r}, only {', '.join(there)}; "
            "change resources.interface"
        )
    os.environ[_GLOO] = os.environ[_NCCL] = name


def interface_of(address: str) -> str | None:
    """The interface of this machine that has an IPv4 address; None if none has."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                answer = fcntl.ioctl(asked.fileno(), _SIOCGIFADDR, request)
            except OSError:
                continue
            if socket.inet_ntoa(answer[20:24]) == address:
                return name
    return None
