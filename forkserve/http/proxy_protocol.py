"""The PROXY protocol, versions 1 and 2: what a proxy says of its client before the first octet of
the client's own.

Source: "The PROXY protocol, versions 1 & 2" (HAProxy, doc/proxy-protocol.txt), sections 2.1 and
2.2. Pure, like the rest of this package: octets in, a value out.
"""

import re
from ipaddress import IPv4Address, IPv6Address

from forkserve.http.errors import ProtocolError

Endpoint = tuple[str, str]
"""(address, port) as text, ("", "") for the end of a unix socket: what ``remote`` is elsewhere."""

# Section 2.1: the longest line of version 1, its CRLF included.
_LONGEST_V1 = 107

# Version 2 can announce 64 KiB. The addresses take 216 octets at most, the rest are TLVs; a proxy
# that puts a whole certificate there stays below this.
LONGEST = 4096

_V1 = b"PROXY "
_V2 = b"\r\n\r\n\0\r\nQUIT\n"
_V2_FIXED = 16

# "PROXY" SP ("TCP4" / "TCP6") SP source SP destination SP port SP port CRLF, ports without leading
# zeros; or "PROXY UNKNOWN" and anything.
_v1_line = re.compile(
    rb"PROXY (?:(TCP[46]) ([0-9A-Fa-f.:]{2,39}) ([0-9A-Fa-f.:]{2,39}) "
    rb"(0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})|UNKNOWN(?: [^\r\n]*)?)\r\n"
).fullmatch

# Version 2, octet 14: family and transport -> octets of addresses and ports (section 2.2).
# Datagrams (0x12, 0x22, 0x32) cannot carry HTTP/1.1, so a header that speaks of them is wrong here.
_UNSPEC, _TCP4, _TCP6, _UNIX = 0x00, 0x11, 0x21, 0x31
_ADDRESS_OCTETS = {_UNSPEC: 0, _TCP4: 12, _TCP6: 36, _UNIX: 216}


class ProxyHeader:
    """What a PROXY header said.

    ``source``, ``destination``  the client's end of its connection to the proxy, and the proxy's;
                                 None if the proxy speaks for itself, or does not know
    ``end``                      index of the first octet after the header
    """

    __slots__ = ("destination", "end", "source")

    def __init__(self, source: Endpoint | None, destination: Endpoint | None, end: int) -> None:
        self.source = source
        self.destination = destination
        self.end = end


def is_proxy_header(octets: bytes) -> bool:
    """Whether ``octets`` begin like a PROXY header. No request does."""
    return octets.startswith((_V1, _V2))


def parse_proxy_header(octets: bytes) -> ProxyHeader | None:
    """Parse the PROXY header that ``octets`` begin with.

    Returns None while it is incomplete, and no more than LONGEST octets are ever needed. Raises
    ProtocolError(400) as soon as the octets at hand cannot become a header that is accepted.
    """
    if octets[:1] == b"P":
        return _parse_v1(octets[:_LONGEST_V1])
    if not _agree(octets, _V2):
        raise ProtocolError(400, "the connection does not begin with a PROXY header")
    return _parse_v2(octets)


def _agree(octets: bytes, prefix: bytes) -> bool:
    """Whether ``octets`` begin with ``prefix``, or still can."""
    return octets.startswith(prefix) or prefix.startswith(octets)


def _parse_v1(octets: bytes) -> ProxyHeader | None:
    if not _agree(octets, _V1):
        raise ProtocolError(400, "the connection does not begin with a PROXY header")
    end = octets.find(b"\n") + 1
    if end == 0:
        if len(octets) == _LONGEST_V1:
            raise ProtocolError(400, "the PROXY line is too long")
        return None
    match = _v1_line(octets[:end])
    if match is None:
        raise ProtocolError(400, "the PROXY line is malformed")
    family, *ends = match.groups()
    if family is None:
        return ProxyHeader(None, None, end)
    source, destination, source_port, destination_port = (item.decode("ascii") for item in ends)
    return ProxyHeader(
        _endpoint(family, source, source_port),
        _endpoint(family, destination, destination_port),
        end,
    )


def _endpoint(family: bytes, address: str, port: str) -> Endpoint:
    try:
        parsed = IPv4Address(address) if family == b"TCP4" else IPv6Address(address)
    except ValueError:
        raise ProtocolError(400, "the PROXY line has a malformed address") from None
    if int(port) > 65535:
        raise ProtocolError(400, "the PROXY line has a port above 65535")
    return str(parsed), port


def _parse_v2(octets: bytes) -> ProxyHeader | None:
    """Signature (12 octets), version and command, family and transport, length (2); then as many
    octets as that says: addresses, and TLVs, which are skipped."""
    command = octets[12:13]
    if command and command not in (b"\x20", b"\x21"):
        raise ProtocolError(400, "the PROXY header has an unknown version or command")
    family = octets[13] if len(octets) > 13 else _UNSPEC
    # Section 2.2: of a LOCAL connection, a proxy's own health check, the rest means nothing.
    local = command == b"\x20"
    if not local and family not in _ADDRESS_OCTETS:
        raise ProtocolError(400, "the PROXY header has an unknown or unsuitable family")
    if len(octets) < _V2_FIXED:
        return None
    size = _ADDRESS_OCTETS.get(family, 0)
    length = int.from_bytes(octets[14:16], "big")
    end = _V2_FIXED + length
    if end > LONGEST:
        raise ProtocolError(400, "the PROXY header is too long")
    if not local and length < size:
        raise ProtocolError(400, "the PROXY header is too short for its addresses")
    if len(octets) < end:
        return None
    if local or family == _UNSPEC:
        return ProxyHeader(None, None, end)
    if family == _UNIX:
        # Paths are no addresses that an application knows; a unix socket of our own has none too.
        return ProxyHeader(("", ""), ("", ""), end)
    source, destination = _binary_endpoints(octets[_V2_FIXED : _V2_FIXED + size])
    return ProxyHeader(source, destination, end)


def _binary_endpoints(octets: bytes) -> tuple[Endpoint, Endpoint]:
    """Two addresses of one size, then their ports, in network order."""
    size = (len(octets) - 4) // 2
    of = IPv4Address if size == 4 else IPv6Address
    ports = octets[2 * size :]
    return (
        (str(of(octets[:size])), str(int.from_bytes(ports[:2], "big"))),
        (str(of(octets[size : 2 * size])), str(int.from_bytes(ports[2:], "big"))),
    )
