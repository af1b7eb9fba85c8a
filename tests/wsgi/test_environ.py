"""environ: what PEP 3333 and RFC 3875 ask for."""

import io
from typing import Any
from wsgiref.validate import check_environ  # type: ignore[attr-defined]

import pytest

from forkserve.http.forwarded import UNTRUSTED, Forwarded
from forkserve.http.head import Limits, parse_head
from forkserve.wsgi.environ import apply_forwarded, listener_environ, request_environ


def environ_of(head: bytes, name: tuple[str, str] = ("127.0.0.1", "8000")) -> dict[str, Any]:
    base = listener_environ(io.StringIO(), name, software="test/1", slot=2, generation=3)
    parsed = parse_head(head, 0, Limits())
    assert parsed is not None
    environ = request_environ(base, parsed, io.BytesIO(), ("192.0.2.1", "4711"), 5)
    assert base.get("REQUEST_METHOD") is None
    return environ


def test_a_request() -> None:
    environ = environ_of(
        b"POST /a%20b/%C3%A9/%2e%2e//c?q=%20 HTTP/1.1\r\nHost: h:81\r\nContent-Type: t/x\r\n"
        b"Content-Length: 5\r\nX-Y: 1\r\nX-Y: 2\r\nProxy: evil\r\n\r\n"
    )
    check_environ(environ)
    assert environ["REQUEST_METHOD"] == "POST"
    assert environ["SCRIPT_NAME"] == ""
    assert environ["PATH_INFO"] == "/a b/\xc3\xa9/..//c"
    assert environ["QUERY_STRING"] == "q=%20"
    assert environ["RAW_URI"] == environ["REQUEST_URI"] == "/a%20b/%C3%A9/%2e%2e//c?q=%20"
    assert environ["CONTENT_TYPE"] == "t/x"
    assert environ["CONTENT_LENGTH"] == "5"
    assert environ["HTTP_HOST"] == "h:81"
    assert environ["HTTP_X_Y"] == "1,2"
    assert environ["SERVER_NAME"] == "127.0.0.1"
    assert environ["SERVER_PORT"] == "8000"
    assert environ["SERVER_PROTOCOL"] == "HTTP/1.1"
    assert environ["REMOTE_ADDR"] == "192.0.2.1"
    assert environ["REMOTE_PORT"] == "4711"
    assert environ["wsgi.url_scheme"] == "http"
    assert environ["wsgi.input_terminated"] is True
    assert environ["wsgi.multithread"] is False
    assert environ["wsgi.multiprocess"] is True
    assert environ["wsgi.run_once"] is False
    assert environ["forkserve.slot"] == 2
    assert environ["forkserve.generation"] == 3
    assert environ["forkserve.requests"] == 5
    assert "HTTP_PROXY" not in environ
    assert "HTTP_CONTENT_LENGTH" not in environ
    assert "HTTP_CONTENT_TYPE" not in environ


def test_http_1_0_and_a_unix_socket() -> None:
    environ = environ_of(b"GET / HTTP/1.0\r\n\r\n", ("/run/s", ""))
    check_environ(environ)
    assert environ["SERVER_PROTOCOL"] == "HTTP/1.0"
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("localhost", "80")


@pytest.mark.parametrize("target", [b"/%", b"/%4", b"/%zz", b"/%00", b"/%2F"])
def test_odd_escapes_are_the_applications_to_judge(target: bytes) -> None:
    path = environ_of(b"GET " + target + b" HTTP/1.0\r\n\r\n")["PATH_INFO"]
    assert path == {b"/%00": "/\0", b"/%2F": "//"}.get(target, target.decode())


@pytest.mark.parametrize("target", [b"*", b"http://h"])
def test_a_question_about_the_server_has_no_path(target: bytes) -> None:
    environ = environ_of(b"OPTIONS " + target + b" HTTP/1.1\r\nHost: h\r\n\r\n")
    check_environ(environ)
    assert (environ["PATH_INFO"], environ["REQUEST_URI"]) == ("", target.decode())


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (Forwarded(), {}),
        (Forwarded(address="2001:db8::1"), {"REMOTE_ADDR": "2001:db8::1", "REMOTE_PORT": ""}),
        (Forwarded(address="192.0.2.9", port="80"), {"REMOTE_ADDR": "192.0.2.9", "REMOTE_PORT": "80"}),
        (Forwarded(scheme="https"), {"wsgi.url_scheme": "https", "HTTPS": "on"}),
        (Forwarded(scheme="http"), {}),
        (Forwarded(host="a:81", server_name="a", server_port="81"),
         {"HTTP_HOST": "a:81", "SERVER_NAME": "a", "SERVER_PORT": "81"}),
        (Forwarded(host="a", server_name="a"), {"HTTP_HOST": "a", "SERVER_NAME": "a", "SERVER_PORT": "80"}),
        (Forwarded(host="a", server_name="a", scheme="https"),
         {"HTTP_HOST": "a", "SERVER_NAME": "a", "SERVER_PORT": "443", "wsgi.url_scheme": "https", "HTTPS": "on"}),
        (Forwarded(server_port="8443"), {"SERVER_PORT": "8443"}),
        (UNTRUSTED, {"HTTP_X_REAL_IP": None}),
        (Forwarded(frozenset({"HTTP_ACCEPT", "HTTP_NONE"})), {"HTTP_ACCEPT": None}),
    ],
)  # fmt: skip
def test_what_proxies_say(said: Forwarded, expected: dict[str, str | None]) -> None:
    environ = environ_of(b"GET / HTTP/1.1\r\nHost: h\r\nAccept: x\r\nX-Real-IP: 192.0.2.9\r\n\r\n")
    before = dict(environ)
    apply_forwarded(environ, said)
    check_environ(environ)
    changed = {
        name: environ.get(name)
        for name in before.keys() | environ.keys()
        if environ.get(name) != before.get(name)
    }
    assert changed == expected


def test_behind_tls() -> None:
    for name, port in ((("127.0.0.1", "8443"), "8443"), (("/run/socket", ""), "443")):
        base = listener_environ(
            io.StringIO(), name, software="test/1", slot=2, generation=3, tls=True
        )
        assert (base["wsgi.url_scheme"], base["HTTPS"], base["SERVER_PORT"]) == (
            "https",
            "on",
            port,
        )
    assert "HTTPS" not in environ_of(b"GET / HTTP/1.1\r\nHost: h\r\nHTTPS: on\r\n\r\n")
