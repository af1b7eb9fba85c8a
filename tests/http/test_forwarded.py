"""What proxies say: tables of fields and of what is made of them."""

import ipaddress
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forkserve.http.forwarded import FIELDS, Forwarded, forwarded_reader
from forkserve.http.head import check_host

FOR, PROTO, HOST, PORT, RFC = (
    "HTTP_X_FORWARDED_FOR",
    "HTTP_X_FORWARDED_PROTO",
    "HTTP_X_FORWARDED_HOST",
    "HTTP_X_FORWARDED_PORT",
    "HTTP_FORWARDED",
)


def trusts(address: str) -> bool:
    return address.startswith("10.") or address == "2001:db8::10"


read_forwarded = forwarded_reader(trusts)


def read(**fields: str) -> Forwarded:
    """``for_``, ``proto``, ``host``, ``port`` of X-Forwarded-*; ``rfc`` is Forwarded."""
    names = {"for_": FOR, "proto": PROTO, "host": HOST, "port": PORT, "rfc": RFC}
    return read_forwarded({names[name]: value for name, value in fields.items()})


@pytest.mark.parametrize(
    ("text", "client"),
    [
        # the walk, from the right
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1, 10.0.0.1", "192.0.2.1"),
        ("192.0.2.1, 10.0.0.2,10.0.0.1", "192.0.2.1"),
        ("198.51.100.9, 192.0.2.1, 10.0.0.1", "192.0.2.1"),  # what a client sent itself
        ("10.0.0.9, 192.0.2.1", "192.0.2.1"),
        ("127.0.0.1, 192.0.2.1", "192.0.2.1"),
        ("10.0.0.3", "10.0.0.3"),
        ("10.0.0.3, 10.0.0.2, 10.0.0.1", "10.0.0.3"),  # all are trusted: the leftmost
        # empty items
        ("", ""), (" ", ""), (",", ""), (",,192.0.2.1,,", "192.0.2.1"), ("192.0.2.1,", "192.0.2.1"),
        (" \t192.0.2.1\t ,\t10.0.0.1 ", "192.0.2.1"),
        # forms
        ("192.0.2.1:8080", "192.0.2.1 8080"), ("192.0.2.1:0", "192.0.2.1 0"),
        ("2001:DB8:0:0::1", "2001:db8::1"), ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:8080", "2001:db8::1 8080"), ('"[2001:db8::1]:8080"', "2001:db8::1 8080"),
        ('"192.0.2.1"', "192.0.2.1"), ("192.0.2.1:_hidden", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::1"), ("[fe80::1%25eth0]:80", "fe80::1 80"),
        ("::ffff:192.0.2.1", "192.0.2.1"), ("[::ffff:192.0.2.1]:80", "192.0.2.1 80"),
        ("192.0.2.1, ::ffff:10.0.0.1", "192.0.2.1"), ("192.0.2.1, [2001:db8::10]:9", "192.0.2.1"),
        # what is no address ends the walk
        ("unknown", ""), ("unix:", ""), ("_hidden", ""), ("example.org", ""), ("-", ""),
        ("192.0.2.1, unknown", ""), ("192.0.2.1, unknown, 10.0.0.1", "10.0.0.1"),
        ("192.0.2.1, , 10.0.0.1:5", "192.0.2.1"),
        ("192.0.2.1:65536", ""), ("192.0.2.1:123456", ""), ("192.0.2.1:", ""), ("192.0.2.1:x", ""),
        ("192.0.2", ""), ("192.0.2.256", ""), ("192.0.02.1", ""), ("3221225985", ""), ("0xc0000201", ""),
        ("[192.0.2.1]", ""), ("192.0.2.1%eth0", ""), ("[::1", ""), ("::1]", ""), ("[::1]80", ""), ("::1::2", ""),
        ("fe80::1%", ""), ("fe80::1%<b>", ""), ('"192.0.2.1', ""), ('192.0.2.1"', ""), ("192.0.2.1 x", ""),
        ("192.0.2.1;10.0.0.1", ""), ("\xb2.0.2.1", ""), ("1" * 60_000, ""), ("[" * 60_000, ""),
        ("[" + ":" * 120 + "]", ""), ("for=192.0.2.1", ""),
    ],
)  # fmt: skip
def test_the_client(text: str, client: str) -> None:
    said = read(for_=text)
    assert f"{said.address} {said.port}".strip() == client
    assert said[3:] == ("", "", "", "")


@pytest.mark.parametrize(
    ("text", "client", "scheme", "host"),
    [
        ("for=192.0.2.1", "192.0.2.1", "", ""),
        ("For=192.0.2.1;Proto=HTTPS;Host=a.example;By=10.0.0.1", "192.0.2.1", "https", "a.example"),
        ('for="[2001:db8::1]:4711"; proto=https', "2001:db8::1 4711", "https", ""),
        ('for="192.0.2.1:80";host="a.example:8443"', "192.0.2.1 80", "", "a.example:8443"),
        (r'for="\1\92.0.2.1"', "192.0.2.1", "", ""),
        ("proto=https;host=a", "", "https", "a"),
        (";for=192.0.2.1;", "192.0.2.1", "", ""),
        # the walk
        ("for=198.51.100.9;proto=http, for=192.0.2.1;proto=https, for=10.0.0.1;proto=http", "192.0.2.1", "https", ""),
        ("for=192.0.2.1;host=a, for=10.0.0.1;host=b;proto=https", "192.0.2.1", "https", "a"),
        ("for=198.51.100.9;proto=https;host=evil, for=192.0.2.1", "192.0.2.1", "", ""),
        ("for=10.0.0.2;proto=https, for=10.0.0.1", "10.0.0.2", "https", ""),
        ("for=192.0.2.9;host=evil, for=unknown;host=a, for=10.0.0.1", "10.0.0.1", "", "a"),
        ("for=192.0.2.9;host=evil, for=_x;proto=https", "", "https", ""),
        ("for=192.0.2.9;host=evil, proto=https, for=10.0.0.1", "10.0.0.1", "https", ""),
        # what a client leaves open swallows nothing
        ('for="evil, for=192.0.2.1;proto=https', "192.0.2.1", "https", ""),
        ('for=evil;x="a\\, for=192.0.2.1', "192.0.2.1", "", ""),
        # malformed elements
        ("", "", "", ""), ("192.0.2.1", "", "", ""), ("for=", "", "", ""), ("for", "", "", ""), ("=192.0.2.1", "", "", ""),
        ("for=192.0.2.1;for=192.0.2.2", "", "", ""), ("for =192.0.2.1", "", "", ""),
        ("for=192.0.2.1;proto=https;proto=http", "", "", ""), ("for=192.0.2.1;x", "", "", ""),
        ("for=192.0.2.1;proto=ftp;host=a/b", "192.0.2.1", "", ""), ('for="192.0.2.1;proto=https', "", "https", ""),
        ("for=192.0.2.9, for=192.0.2.1;, x;y=z", "", "", ""),
    ],
)  # fmt: skip
def test_rfc_7239(text: str, client: str, scheme: str, host: str) -> None:
    said = read(rfc=text)
    assert (f"{said.address} {said.port}".strip(), said.scheme, said.host) == (client, scheme, host)
    assert said.drop == set()


@pytest.mark.parametrize(
    ("for_", "proto", "scheme"),
    [
        (None, "https", "https"), (None, "http", "http"), (None, "HTTPS", "https"), (None, "", ""),
        (None, "http, https", "https"),  # of no list of clients: the last
        ("192.0.2.1", "https", "https"), ("192.0.2.1", " https ,", "https"),
        ("192.0.2.1, 10.0.0.1", "https, http", "https"),  # lists of one length: the client's
        ("1.1.1.1, 192.0.2.1, 10.0.0.1", "http, https, http", "https"),
        ("192.0.2.1, 10.0.0.1", "http, http, https", "https"),  # others: the last
        ("1.1.1.1, 192.0.2.1", "https", "https"),
        ("unknown, 10.0.0.1", "https, http", "https"),
        ("192.0.2.1, unknown", "https, http", "http"),
        ("10.0.0.2, 10.0.0.1", "https, http", "https"),
        (None, "wss", ""), (None, "on", ""), (None, "https://", ""), (None, "https;http", ""), (None, '"https"', ""),
        ("192.0.2.1", "x" * 60_000, ""), (None, "http\xe9", ""),
        ("192.0.2.1, 10.0.0.1", "ftp, https", ""),  # never another's
    ],
)  # fmt: skip
def test_the_scheme(for_: str | None, proto: str, scheme: str) -> None:
    said = read(proto=proto) if for_ is None else read(for_=for_, proto=proto)
    assert said.scheme == scheme


@pytest.mark.parametrize(
    ("host", "port", "expected"),
    [
        ("a.example", None, ("a.example", "a.example", "")),
        ("a.example:8443", None, ("a.example:8443", "a.example", "8443")),
        ("a.example:8443", "443", ("a.example:8443", "a.example", "443")),
        ("a.example:", None, ("a.example:", "a.example", "")),
        ("[::1]:8443", None, ("[::1]:8443", "[::1]", "8443")),
        ("a.example, b.example", None, ("b.example", "b.example", "")),
        ("a.example:00080", None, ("a.example:00080", "a.example", "80")),
        ("a.example:0", None, ("a.example:0", "a.example", "")),
        (None, "8443", ("", "", "8443")), (None, "443, 80", ("", "", "80")), (None, " 0443", ("", "", "443")),
        # as strict as Host
        ("", None, ("", "", "")), (":80", None, ("", "", "")), ("a b", None, ("", "", "")), ("a/b", None, ("", "", "")),
        ("u@a", None, ("", "", "")), ("a:65536", None, ("", "", "")), ("a:x", None, ("", "", "")),
        ("[::1", None, ("", "", "")), ("[::g]", None, ("", "", "")), ("a\xe9", None, ("", "", "")), ("a\"b", None, ("", "", "")),
        ("a<b>", None, ("", "", "")), ("a?b", None, ("", "", "")), ("http://a", None, ("", "", "")), ("a:" + "9" * 5000, None, ("", "", "")),
        (None, "0", ("", "", "")), (None, "65536", ("", "", "")), (None, "-1", ("", "", "")), (None, "+80", ("", "", "")),
        (None, "", ("", "", "")), (None, "\xb2", ("", "", "")), (None, "9" * 5000, ("", "", "")), (None, "8_0", ("", "", "")),
        ("a/b", "8443", ("", "", "8443")), ("a.example:81", "x", ("a.example:81", "a.example", "81")),
    ],
)  # fmt: skip
def test_host_and_port(host: str | None, port: str | None, expected: tuple[str, str, str]) -> None:
    said = read(**{k: v for k, v in (("host", host), ("port", port)) if v is not None})
    assert said[4:] == expected


def test_host_and_port_of_the_client_among_several() -> None:
    said = read(
        for_="1.1.1.1, 192.0.2.1, 10.0.0.1", host="evil, a, b", port="1, 2, 3", proto="https"
    )
    assert said[1:] == ("192.0.2.1", "", "https", "a", "a", "2")


@pytest.mark.parametrize("name", ["for_", "proto", "host", "port"])
@pytest.mark.parametrize("value", ["", "192.0.2.1", "nonsense"])
def test_with_any_x_forwarded_field_the_other_one_is_dropped(name: str, value: str) -> None:
    said = read(**{name: value}, rfc="for=198.51.100.9;proto=https;host=evil")
    assert said.drop == {RFC}
    assert "198.51.100.9" not in said and "evil" not in said and said.scheme == ""


def test_fields_that_are_not_interpreted_say_nothing() -> None:
    others = FIELDS - {FOR, PROTO, HOST, PORT, RFC}
    assert {
        "HTTP_X_REAL_IP",
        "HTTP_X_FORWARDED_PREFIX",
        "HTTP_X_SCRIPT_NAME",
        "HTTP_X_CLIENT_IP",
    } < others
    assert read_forwarded(dict.fromkeys(others, "192.0.2.1")) == Forwarded()


def test_a_list_is_looked_at_from_its_end_within_a_bound() -> None:
    assert read(for_="192.0.2.1" + ",10.0.0.1" * 63).address == "192.0.2.1"
    assert read(for_="192.0.2.1" + ",10.0.0.1" * 64).address == "10.0.0.1"
    assert read(for_="," * 60_000 + "192.0.2.1").address == "192.0.2.1"


def test_when_all_are_trusted_the_leftmost_is_the_client() -> None:
    read_all = forwarded_reader(lambda _: True)
    said = read_all({FOR: "198.51.100.9, 192.0.2.1", PROTO: "https, http"})
    assert (said.address, said.scheme) == ("198.51.100.9", "https")


@pytest.mark.parametrize("name", [FOR, PROTO, HOST, PORT, RFC])
@pytest.mark.parametrize(
    "piece",
    [",", ";", '"', "\\", "for=", "for=10.0.0.1,", "10.0.0.1,", ':"', "a=b;", "%", "[", "https,", '"\\'],
)  # fmt: skip
def test_long_values_take_linear_time(name: str, piece: str) -> None:
    began = time.process_time()
    read_forwarded({name: piece * (1_000_000 // len(piece))})
    assert time.process_time() - began < 5  # quadratic would be hours


# ---- whatever is sent

PIECES = st.sampled_from(
    ["10.0.0.1", "192.0.2.1", "[2001:db8::1]", "::1", ":80", ",", ", ", ";", "=", '"', "\\", "for", "proto",
     "host", "https", "unknown", "_x", "unix:", "%", "\xe9", "\t", "[", "]", "9" * 30, "a.example"]
)  # fmt: skip
VALUES = st.one_of(st.lists(PIECES, max_size=12).map("".join), st.text(max_size=40))
NAMES = st.sampled_from(sorted(FIELDS))


@settings(deadline=None)
@given(st.dictionaries(NAMES, VALUES, max_size=6))
def test_what_is_found_is_well_formed(fields: dict[str, str]) -> None:
    said = read_forwarded(fields)
    if said.address:
        assert str(ipaddress.ip_address(said.address)) == said.address
    assert said.port == "" or (said.address and 0 <= int(said.port) <= 65535)
    assert said.scheme in ("", "http", "https")
    check_host(said.host)
    assert bool(said.host) == bool(said.server_name)
    assert said.server_port == "" or 0 < int(said.server_port) <= 65535
    assert read_forwarded(fields) == said


@settings(deadline=None)
@given(VALUES, VALUES)
def test_a_client_cannot_change_what_its_proxy_appends(sent: str, other: str) -> None:
    said = read(for_=f"{sent}, 192.0.2.1", proto="https", host="a.example", rfc=other)
    assert said[1:4] == ("192.0.2.1", "", "https")
    assert said.host == "a.example"
    said = read(rfc=f"{sent}, for=192.0.2.1;proto=https;host=a.example")
    assert said[1:5] == ("192.0.2.1", "", "https", "a.example")


def test_an_answer_is_remembered_for_short_values_only() -> None:
    asked: list[str] = []

    def trusts_nobody(address: str) -> bool:
        asked.append(address)
        return False

    remembering = forwarded_reader(trusts_nobody)
    fields: dict[str, Any] = {FOR: "192.0.2.1", PROTO: "https", "HTTP_X": "1"}
    assert remembering(fields) is remembering(dict(fields))
    assert asked == ["192.0.2.1"]
    fields[FOR] = "x," * 300 + "192.0.2.1"
    assert remembering(fields) == remembering(fields)
    assert asked == ["192.0.2.1"] * 3
