"""A guard that refuses every connection that leaves the machine.

It listens to CPython's audit events, so it also sees sockets that were made before it, subclasses of `socket.socket`, and asyncio.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import sys
from typing import Any


class NetworkGuard:
    """Refuses non-loopback connections and remembers them.

    Attributes:
        attempts: Whom somebody tried to reach since the list was last emptied.
    """

    def __init__(self) -> None:
        self.attempts: list[str] = []
        self._own_names = {"localhost", "localhost.localdomain", "ip6-localhost", socket.gethostname().lower()}
        self._installed = False

    def install(self) -> None:
        """Start listening; an audit hook stays until the process ends."""
        if not self._installed:
            sys.addaudithook(self._audit)
            self._installed = True

    def allows(self, host: object) -> bool:
        """Whether a host is this machine: an address of the loopback range, or a name that stands for it."""
        if isinstance(host, bytes | bytearray):
            host = bytes(host).decode("ascii", "replace")
        if host is None or host == "":
            return True
        text = str(host).split("%")[0].lower()
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return text in self._own_names
        mapped = getattr(address, "ipv4_mapped", None)
        return (mapped or address).is_loopback or address.is_unspecified

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not event.startswith("socket."):
            return
        if event == "socket.getaddrinfo":
            # Asking for the address of a number sends nothing.
            if not (self.allows(arguments[0]) or _is_address(arguments[0])):
                self._refuse(str(arguments[0]))
        elif event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
            sock, address = arguments[0], arguments[1]
            if not isinstance(address, tuple) or sock.family not in (socket.AF_INET, socket.AF_INET6) or self.allows(address[0]):
                return
            # Connecting a datagram socket sends nothing; libraries do it to learn their own address. It is refused, as it would be on a
            # machine without a network, but nobody is blamed.
            blameless = event == "socket.connect" and bool(sock.type & socket.SOCK_DGRAM) and not bool(sock.type & socket.SOCK_STREAM)
            self._refuse(f"{address[0]}:{address[1]}", blame=not blameless)

    def _refuse(self, whom: str, *, blame: bool = True) -> None:
        if blame:
            self.attempts.append(whom)
        raise OSError(errno.ENETUNREACH, f"tests talk to loopback only, not to {whom}")


def _is_address(host: object) -> bool:
    try:
        ipaddress.ip_address(host.decode("ascii", "replace") if isinstance(host, bytes) else str(host))
    except ValueError:
        return False
    return True
