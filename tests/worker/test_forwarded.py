"""Requests through proxies, from the socket to what the application and the access log see."""

from collections.abc import Iterable
from typing import Any

import pytest

from forkserve.http.forwarded import FIELDS
from forkserve.net.peers import parse_peer
from tests.worker.peer import GET, Peer, hello

LOCAL = ("127.0.0.1", "4711")
UNIX = ("", "")
ELSEWHERE = ("192.0.2.1", "4711")
SAID = (
    "X-Forwarded-For: 198.51.100.9, 203.0.113.5:99\r\nX-Forwarded-Proto: https\r\n"
    "X-Forwarded-Host: shop.example:8443\r\n"
)
SEEN = {
    "REMOTE_ADDR": "203.0.113.5",
    "REMOTE_PORT": "99",
    "wsgi.url_scheme": "https",
    "HTTP_HOST": "shop.example:8443",
    "SERVER_NAME": "shop.example",
    "SERVER_PORT": "8443",
    "SCRIPT_NAME": "",
}
OWN = {
    "wsgi.url_scheme": "http",
    "HTTP_HOST": "h",
    "SERVER_NAME": "127.0.0.1",
    "SERVER_PORT": "8000",
    "SCRIPT_NAME": "",
}
# One line of each field, well-formed: the worst that an attacker can say.
ALL = "".join(
    f"{name.removeprefix('HTTP_').replace('_', '-')}: "
    f"{'for=203.0.113.5;proto=https;host=evil' if name == 'HTTP_FORWARDED' else '203.0.113.5'}\r\n"
    for name in sorted(FIELDS)
)


class Seen:
    """An application that keeps the environ of the last request."""

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        self.environ = dict(environ)
        start_response("200 OK", [])
        return [b"ok"]


def ask(remote: tuple[str, str], fields: str, **settings: Any) -> tuple[dict[str, Any], Peer]:
    app = Seen()
    peer = Peer(app, remote=remote, **settings)
    peer.send(b"GET / HTTP/1.1\r\nHost: h\r\n" + fields.encode("latin-1") + b"\r\n")
    assert peer.statuses() == [200]
    return app.environ, peer


def part(environ: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: environ.get(name) for name in names}


@pytest.mark.parametrize("remote", [LOCAL, ("::1", "1"), ("::ffff:127.0.0.1", "1"), UNIX])
def test_a_proxy_on_this_machine_is_trusted(remote: tuple[str, str]) -> None:
    environ, peer = ask(remote, SAID)
    assert part(environ, SEEN) == SEEN
    assert [access.remote for access in peer.accesses.seen] == ["203.0.113.5"]
    assert environ["HTTP_X_FORWARDED_PROTO"] == "https"  # for frameworks that look there


@pytest.mark.parametrize(
    "fields", [SAID, ALL, "Forwarded: for=203.0.113.5;proto=https;host=evil\r\n"]
)
def test_from_elsewhere_nothing_of_it_counts_nor_reaches_the_application(fields: str) -> None:
    environ, peer = ask(ELSEWHERE, fields)
    expected = OWN | {"REMOTE_ADDR": "192.0.2.1", "REMOTE_PORT": "4711"}
    assert part(environ, expected) == expected
    assert not FIELDS & environ.keys()
    assert "203.0.113.5" not in str(environ)
    assert [access.remote for access in peer.accesses.seen] == ["192.0.2.1"]


@pytest.mark.parametrize("name", sorted(FIELDS))
@pytest.mark.parametrize("spelling", [str.lower, str.upper, str.title])
def test_each_field_is_dropped_however_it_is_spelled(name: str, spelling: Any) -> None:
    field = spelling(name.removeprefix("HTTP_").replace("_", "-"))
    environ, _ = ask(ELSEWHERE, f"{field}: x\r\n{field}: y\r\nX-Kept: z\r\n")
    assert name not in environ
    assert environ["HTTP_X_KEPT"] == "z"


def test_an_underscore_is_no_way_around() -> None:
    for fields in ("X_Forwarded_For: 6.6.6.6\r\n" + SAID, SAID + "X_Forwarded_For: 6.6.6.6\r\n"):
        environ, _ = ask(LOCAL, fields)
        assert part(environ, SEEN) == SEEN


@pytest.mark.parametrize(
    ("allowed", "remote", "trusted"),
    [
        ("192.0.2.0/24", ELSEWHERE, True), ("192.0.2.0/24", LOCAL, False), ("192.0.2.0/24", UNIX, False),
        ("2001:db8::/32", ("2001:db8::5", "1"), True), ("fe80::/10", ("fe80::1%eth0", "1"), True),
        ("*", ELSEWHERE, True), ("*", UNIX, True), ("none", LOCAL, False), ("none", UNIX, False),
        ("unix", UNIX, True), ("unix", LOCAL, False),
    ],
)  # fmt: skip
def test_who_is_trusted(allowed: str, remote: tuple[str, str], trusted: bool) -> None:
    environ, _ = ask(
        remote, "X-Forwarded-For: 203.0.113.5\r\n", forwarded_allow_ips=(parse_peer(allowed),)
    )
    assert environ["REMOTE_ADDR"] == ("203.0.113.5" if trusted else remote[0])
    assert ("HTTP_X_FORWARDED_FOR" in environ) is trusted


def test_proxies_on_the_way_are_skipped() -> None:
    allowed = tuple(map(parse_peer, ("unix", "10.0.0.0/8")))
    fields = "X-Forwarded-For: 6.6.6.6, 203.0.113.5, 10.1.1.1\r\nX-Forwarded-For: 10.2.2.2\r\n"
    assert ask(UNIX, fields, forwarded_allow_ips=allowed)[0]["REMOTE_ADDR"] == "203.0.113.5"


def test_forwarded_of_rfc_7239() -> None:
    environ, peer = ask(
        LOCAL, 'Forwarded: for="[2001:db8::7]:99";proto=https;host=shop.example\r\n'
    )
    expected = {
        "REMOTE_ADDR": "2001:db8::7", "REMOTE_PORT": "99", "wsgi.url_scheme": "https",
        "HTTP_HOST": "shop.example", "SERVER_NAME": "shop.example", "SERVER_PORT": "443",
    }  # fmt: skip
    assert part(environ, expected) == expected
    assert [access.remote for access in peer.accesses.seen] == ["2001:db8::7"]


def test_a_forwarded_that_a_proxy_passes_on_does_not_count() -> None:
    environ, _ = ask(LOCAL, "Forwarded: for=6.6.6.6;host=evil\r\nX-Forwarded-For: 203.0.113.5\r\n")
    assert (environ["REMOTE_ADDR"], environ["HTTP_HOST"]) == ("203.0.113.5", "h")
    assert "HTTP_FORWARDED" not in environ


@pytest.mark.parametrize(
    "fields",
    [
        "X-Forwarded-For: unknown\r\nX-Forwarded-Proto: gopher\r\nX-Forwarded-Host: a b\r\n",
        "X-Forwarded-For:\r\nX-Forwarded-Proto: ,\r\nX-Forwarded-Port: \xb2\r\n",
        'Forwarded: for="\r\n',
        "X-Forwarded-For: unix:\r\n",  # nginx, of its own client on a unix socket
        "X-Real-IP: 203.0.113.5\r\nX-Forwarded-Prefix: /x\r\nX-Script-Name: /x\r\nX-Forwarded-Ssl: on\r\n",
    ],
)
def test_what_is_malformed_or_not_interpreted_changes_nothing(fields: str) -> None:
    environ, peer = ask(LOCAL, fields)
    expected = OWN | {"REMOTE_ADDR": "127.0.0.1", "REMOTE_PORT": "4711"}
    assert part(environ, expected) == expected
    assert peer.log.lines == []


def test_each_request_of_a_connection_has_a_client_of_its_own() -> None:
    app = Seen()
    peer = Peer(app, remote=LOCAL)
    for fields, address in ((SAID, "203.0.113.5"), ("", "127.0.0.1"), (SAID, "203.0.113.5")):
        peer.send(f"GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n".encode())
        assert app.environ["REMOTE_ADDR"] == address
    assert [access.remote for access in peer.accesses.seen] == [
        "203.0.113.5", "127.0.0.1", "203.0.113.5",
    ]  # fmt: skip


def test_a_request_that_is_refused_is_logged_with_its_client() -> None:
    peer = Peer(Seen(), remote=LOCAL, max_body=10)
    peer.send(f"POST / HTTP/1.1\r\nHost: h\r\n{SAID}Content-Length: 11\r\n\r\n".encode())
    assert peer.statuses() == [413]
    assert [access.remote for access in peer.accesses.seen] == ["203.0.113.5"]


def test_the_log_names_once_who_is_not_trusted() -> None:
    peer = Peer(Seen(), remote=ELSEWHERE)
    for _ in range(3):
        peer.send(GET.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 203.0.113.5\r\n\r\n"))
    (line,) = peer.log.lines
    assert line.startswith("192.0.2.1 sends fields that only a proxy may send")
    assert "`forwarded_allow_ips`" in line
    assert "203.0.113.5" not in line


def test_the_access_line_of_a_refused_request_has_its_fields() -> None:
    peer = Peer(hello, max_body=10)
    peer.send(
        b"POST / HTTP/1.1\r\nHost: h\r\nUser-Agent: curl\r\nX-Real-IP: 1.2.3.4\r\n"
        b"Content-Length: 11\r\n\r\n"
    )
    assert peer.statuses() == [413]
    (access,) = peer.accesses.seen
    assert access.environ == {
        "HTTP_HOST": "h", "HTTP_USER_AGENT": "curl", "CONTENT_LENGTH": "11",
        "HTTP_X_REQUEST_ID": access.request_id, "forkserve.request_id": access.request_id,
    }  # fmt: skip
