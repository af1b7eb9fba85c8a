"""Names of other machines, for who sends datagrams to them.

To look a name up can take as long as a minute. Where nobody may wait so long, ``tell_later`` asks
in another process, and what it returns is told here with ``take``.
"""

import json
import socket
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any

_told: dict[str, list[Any]] = {}  # what ``take`` was told: [why not, [[family, address], ...]]


def look_up(host: str, port: int) -> list[tuple[socket.AddressFamily, Any]]:
    """(family, what ``sendto`` takes) of each address, the best first. Raises OSError."""
    why, found = _told.get(_key(host, port)) or _ask(host, port)
    if why:
        raise OSError(None, why)
    return [(socket.AddressFamily(family), tuple(where)) for family, where in found]


def tell_later(places: Iterable[tuple[str, int]]) -> str:
    """Look them up, as long as it takes. Returns what ``take`` takes."""
    return json.dumps({_key(*place): _ask(*place) for place in places})


def take(text: str) -> None:
    """From now on ``look_up`` returns what ``tell_later`` found, of the places that it was asked
    for, and of no others."""
    _told.clear()
    if text:
        _told.update(json.loads(text))


def takes_time(host: str) -> bool:
    """Whether somebody else may have to be asked for it."""
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return host != "localhost"
    return False


def _key(host: str, port: int) -> str:
    return f"{host} {port}"


def _ask(host: str, port: int) -> list[Any]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:
        return [getattr(error, "strerror", None) or str(error), []]
    return ["", [[int(family), list(where)] for family, _, _, _, where in found]]
