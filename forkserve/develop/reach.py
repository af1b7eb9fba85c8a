"""From where a listening socket can be reached: for what must not be offered to other machines."""

import socket
from collections.abc import Iterable
from ipaddress import ip_address

from forkserve.net.listeners import Listener


def public_listener(listeners: Iterable[Listener]) -> Listener | None:
    """The first one that other machines can reach, by the address that it is bound to."""
    return next((listener for listener in listeners if not _is_local(listener)), None)


def _is_local(listener: Listener) -> bool:
    if listener.family == socket.AF_UNIX:
        return True
    return ip_address(listener.name[0].partition("%")[0]).is_loopback
