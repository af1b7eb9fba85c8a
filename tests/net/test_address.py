"""Addresses as people write them."""

import os

import pytest

from forkserve.net.address import FdAddress, InetAddress, UnixAddress, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8000", InetAddress("127.0.0.1", 8000)),
        ("localhost:0", InetAddress("localhost", 0)),
        (":8000", InetAddress("0.0.0.0", 8000)),
        ("[::1]:65535", InetAddress("::1", 65535)),
        ("[fe80::1%eth0]:80", InetAddress("fe80::1%eth0", 80)),
        ("unix:/run/a.sock", UnixAddress("/run/a.sock")),
        ("unix:/run/a.sock,mode=0660", UnixAddress("/run/a.sock", 0o660)),
        ("unix:/a,user=0,group=root,mode=600", UnixAddress("/a", 0o600, 0, 0)),
        ("fd://3", FdAddress(3)),
    ],
)
def test_addresses(text: str, address: object) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1:8000",
        "[::1]:80",
        "unix:/run/a.sock",
        "unix:/run/a.sock,mode=660",
        "unix:/run/a.sock,mode=007",
        "unix:/run/a.sock,user=0",
        "unix:/run/a.sock,mode=600,user=33,group=4294967294",
        "fd://3",
    ],
)
def test_an_address_reads_back(text: str) -> None:
    assert str(parse_address(text)) == text


@pytest.mark.parametrize("mode", [0o000, 0o006, 0o060, 0o600, 0o666, 0o777])
@pytest.mark.parametrize("ids", [(-1, -1), (0, -1), (-1, 0), (65534, 65533)])
def test_the_options_of_a_unix_address_are_written_as_they_are_read(
    mode: int, ids: tuple[int, int]
) -> None:
    address = UnixAddress("/run/a.sock", mode, *ids)
    assert parse_address(str(address)) == address


def test_a_path_can_be_of_any_octets() -> None:
    path = os.fsdecode(b"/run/\xff" + b"\xe9" * 100)
    assert parse_address(f"unix:{path}") == UnixAddress(path)
    with pytest.raises(ValueError, match="107 octets"):
        parse_address(f"unix:{path}\xe9")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "is no address"),
        ("8000", "is no address"),
        ("host", "is no address"),
        ("host:", "is no address"),
        ("host:http", "is no address"),
        ("::1:8000", "is no address"),
        ("host:70000", "above 65535"),
        ("host:-1", "is no address"),
        ("host:\u0661", "is no address"),
        ("[::x]:80", "no IPv6 address"),
        ("[127.0.0.1]:80", "no IPv6 address"),
        ("unix:relative", "absolute path"),
        ("unix:", "absolute path"),
        ("unix:/" + "a" * 108, "107 octets"),
        ("unix:/a,mode=9", "mode=660"),
        ("unix:/a,mode=1777", "mode=660"),
        ("unix:/a,colour=red", "colour=red"),
        ("unix:/a,user=nobody-of-that-name", "'nobody-of-that-name' is no user"),
        ("unix:/a,group=nobody-of-that-name", "'nobody-of-that-name' is no group"),
        ("unix:/a,user=", "is no user"),
        ("unix:/a,user=-1", "is no user"),
        ("unix:/a,user=\u0661", "is no user"),
        ("unix:/a,user=4294967295", "'4294967295' is too large"),  # -1 of chown(2): unchanged
        ("unix:/a,group=4294967295", "is too large"),
        ("unix:/a,user=" + "9" * 5000, "is too large"),  # and no error of int()
        ("fd://x", "fd://3"),
        ("fd://-1", "fd://3"),
        ("fd://", "fd://3"),
    ],
)
def test_what_is_no_address(text: str, part: str) -> None:
    with pytest.raises(ValueError, match=part):
        parse_address(text)
