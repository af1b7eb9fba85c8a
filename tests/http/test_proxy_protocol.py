"""The PROXY protocol: every form, fed whole, in two at every offset, and octet by octet."""

from typing import Any

import pytest

from forkserve.http.errors import ProtocolError
from forkserve.http.proxy_protocol import LONGEST, parse_proxy_header

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
TCP4 = bytes([192, 0, 2, 1, 198, 51, 100, 2]) + b"\x11\x5c\x01\xbb"  # ports 4444, 443
V6 = "2001:db8::1"
TCP6 = b"\x20\x01\x0d\xb8" + bytes(11) + b"\x01" + bytes(15) + b"\x01" + b"\xff\xff\0\0"


def v2(body: bytes, *, command: int = 0x21, family: int = 0x11, length: int | None = None) -> bytes:
    length = len(body) if length is None else length
    return SIGNATURE + bytes([command, family]) + length.to_bytes(2, "big") + body


Result = tuple[Any, Any, int] | str | None


def parse(octets: bytes) -> Result:
    try:
        header = parse_proxy_header(octets)
    except ProtocolError as error:
        assert error.status == 400
        return error.detail
    return None if header is None else (header.source, header.destination, header.end)


GOOD = [
    (b"PROXY TCP4 192.0.2.1 198.51.100.2 4444 443\r\n",
     ("192.0.2.1", "4444"), ("198.51.100.2", "443")),
    (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
     ("255.255.255.255", "65535"), ("255.255.255.255", "65535")),
    (b"PROXY TCP6 2001:DB8:0:0:0:0:0:1 ::1 0 1\r\n", (V6, "0"), ("::1", "1")),
    (b"PROXY TCP6 " + 2 * b"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff " + b"65535 65535\r\n",
     ("ffff:" * 7 + "ffff", "65535"), ("ffff:" * 7 + "ffff", "65535")),
    (b"PROXY UNKNOWN\r\n", None, None),
    (b"PROXY UNKNOWN what ever it is\r\n", None, None),
    (b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n", None, None),  # 107 octets
    (v2(TCP4), ("192.0.2.1", "4444"), ("198.51.100.2", "443")),
    (v2(TCP4 + b"\x03\0\x04\1\2\3\4"), ("192.0.2.1", "4444"), ("198.51.100.2", "443")),
    (v2(TCP4 + bytes(LONGEST - 28)), ("192.0.2.1", "4444"), ("198.51.100.2", "443")),
    (v2(TCP6, family=0x21), (V6, "65535"), ("::1", "0")),
    (v2(b"/run/a".ljust(108, b"\0") + bytes(108), family=0x31), ("", ""), ("", "")),
    (v2(b"", family=0), None, None),
    (v2(b"tlvs", family=0), None, None),
    (v2(b"", command=0x20, family=0), None, None),
    (v2(TCP4, command=0x20), None, None),
    (v2(b"", command=0x20), None, None),
    (v2(b"xyz", command=0x20, family=0xFF), None, None),
]  # fmt: skip


@pytest.mark.parametrize(("octets", "source", "destination"), GOOD, ids=range(len(GOOD)))
def test_headers(octets: bytes, source: Any, destination: Any) -> None:
    whole = (source, destination, len(octets))
    assert parse(octets) == whole
    for rest in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01", octets, b"\n"):
        assert parse(octets + rest) == whole
    for end in range(len(octets)):
        assert parse(octets[:end]) is None, end


BAD = [
    b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
    b"\r\n\r\nGET / HTTP/1.1\r\n",
    b"proxy TCP4 192.0.2.1 192.0.2.1 1 1\r\n",
    b"PROXY\r\n",
    b"PROXY \r\n",
    b"PROXY TCP5 192.0.2.1 192.0.2.1 1 1\r\n",
    b"PROXY UDP4 192.0.2.1 192.0.2.1 1 1\r\n",
    b"PROXY UNKNOWNS\r\n",
    b"PROXY TCP4\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.1 1\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.1 1 1 1\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.1 1 1 \r\n",
    b"PROXY  TCP4 192.0.2.1 192.0.2.1 1 1\r\n",
    b"PROXY\tTCP4 192.0.2.1 192.0.2.1 1 1\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.1 1 1\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.1 1 1\r\r\n",
    b"PROXY UNKNOWN a\rb\r\n",
    b"PROXY TCP4 192.0.2 192.0.2.1 1 1\r\n",
    b"PROXY TCP4 192.0.2.256 192.0.2.1 1 1\r\n",
    b"PROXY TCP4 192.0.2.01 192.0.2.1 1 1\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.1 65536 1\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.1 1 99999\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.1 01 1\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.1 -1 1\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.1 1 \xb2\r\n",
    b"PROXY TCP4 ::1 ::1 1 1\r\n",
    b"PROXY TCP6 192.0.2.1 192.0.2.1 1 1\r\n",
    b"PROXY TCP6 ::1%eth0 ::1 1 1\r\n",
    b"PROXY TCP6 ::1::1 ::1 1 1\r\n",
    b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
    b"PROXY UNKNOWN " + b"x" * 200,
    SIGNATURE + b"\x31\x11\0\x0c" + TCP4,  # version 3
    SIGNATURE + b"\x01\x11\0\x0c" + TCP4,
    SIGNATURE + b"\x22\x11\0\x0c" + TCP4,  # no such command
    v2(TCP4, family=0x10),
    v2(TCP4, family=0x01),
    v2(TCP4, family=0x12),  # datagrams
    v2(TCP6, family=0x22),
    v2(bytes(216), family=0x32),
    v2(TCP4, family=0x41),
    v2(TCP4, family=0x13),
    v2(TCP4[:11]),
    v2(TCP6[:35], family=0x21),
    v2(bytes(215), family=0x31),
    v2(TCP4, length=LONGEST - 15),
    v2(TCP4, length=65535),
    v2(b"", command=0x20, length=65535),
]


@pytest.mark.parametrize("octets", BAD, ids=range(len(BAD)))
def test_malformed_headers_are_refused_once_and_for_all(octets: bytes) -> None:
    result = parse(octets)
    assert isinstance(result, str)
    refused = False
    for end in range(1, len(octets) + 1):
        part = parse(octets[:end])
        assert part == result if refused else part in (None, result), end
        refused = part is not None
    assert parse(octets + b"\r\n") == result


def test_a_version_1_line_is_never_longer_than_107_octets() -> None:
    line = b"PROXY UNKNOWN " + b"x" * 100
    assert parse(line[:106]) is None
    assert parse(line[:107]) == "the PROXY line is too long"


def test_no_more_than_the_longest_is_ever_needed() -> None:
    octets = v2(TCP4 + bytes(LONGEST))
    assert parse(octets[:LONGEST]) is not None
