"""The same octets through nginx and HAProxy: what they count as one request is one behind them.

Each proxy gives each request that it counts an id of its own, in X-Count and in its log. A request
that forkserve sees, and the proxy did not count, has none, or one that was there already.
"""

import re
import select
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.command.harness import WAIT, Server
from tests.command.proxies import OUR_USER, haproxy, nginx
from tests.http.corpus import cases

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
AFTER = b"GET /after HTTP/1.1\r\nHost: h\r\n\r\n"
EMPTY = b"0\r\n\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(SMUGGLED)
CHUNK = b"%x\r\n%b\r\n" % (len(SMUGGLED), SMUGGLED)


def message(*lines: bytes, body: bytes = b"", start: bytes = b"POST /one HTTP/1.1") -> bytes:
    return b"".join((start, b"\r\nHost: h\r\n", *lines, b"\r\n", body))


CODINGS = [
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding : chunked\r\n",
    b"Transfer-Encoding\t: chunked\r\n", b"Transfer-Encoding: xchunked\r\n",
    b"Transfer-Encoding: \x0bchunked\r\n", b"Transfer-Encoding:\r\n chunked\r\n",
    b"X: y\nTransfer-Encoding: chunked\r\n", b"X: y\rTransfer-Encoding: chunked\r\n",
    b" Transfer-Encoding: chunked\r\n", b"Transfer_Encoding: chunked\r\n",
    b"Transfer-Encoding: chunked, identity\r\n", b"Transfer-Encoding: identity, chunked\r\n",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n", b"Transfer-Encoding: \"chunked\"\r\n",
    b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n", b"Transfer-Encoding: chunked\0\r\n",
    b"Transfer-Encoding: ,chunked\r\n", b"Transfer-Encoding: chunked;q=1\r\n",
    b"Transfer-Encoding:\xa0chunked\r\n", b"\0Transfer-Encoding: chunked\r\n",
]  # fmt: skip
NUMBER = b"%d" % len(SMUGGLED)
LENGTHS = [
    NUMBER, b"+" + NUMBER, b"0" + NUMBER, NUMBER + b", " + NUMBER, NUMBER + b",0", b"-0", b"0x23",
    NUMBER + b"\r\nContent-Length: 0", b"0\r\nContent-Length: " + NUMBER, NUMBER + b"\x0b", b"",
    NUMBER + b"\r\nContent-Length : 0", NUMBER + b" 0", b"1" + b"0" * 30, b"\r\n " + NUMBER,
    NUMBER + b"\nContent-Length: 0", b"18446744073709551616", b"0\r\nContent_Length: " + NUMBER,
]  # fmt: skip
CHUNKS = [
    b"0;a\nX\r\n\r\n", b"0;a\rX\r\n\r\n", b"0\n\n", b"0\r\n\n", b"0\n\r\n", b"00000\r\n\r\n", b"0 \r\n\r\n",
    b"0x0\r\n\r\n", b"+0\r\n\r\n", b"-0\r\n\r\n", b"1_0\r\n", b"\r\n0\r\n\r\n", b"10000000000000000\r\n",
    b'0;a="\r\n\r\n', b"0;\r\n\r\n", b"2\r\nxx0\r\n\r\n", b"2\r\nxx\n0\r\n\r\n", b"1\r\nxx\r\n0\r\n\r\n",
    b"0\r\nX: y\r\n\r\n", b"0\r\nContent-Length: 35\r\n\r\n", b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"0\r\nX: y\n\r\n", b"0\r\n X: y\r\n\r\n", b"0\r\nX : y\r\n\r\n", b"0\r\n", b"5\r\nab\r\n0\r\n\r\n",
]  # fmt: skip
CHUNKED = b"Transfer-Encoding: chunked\r\n"
UPGRADE = (
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
)
EXPECT = b"Expect: 100-continue\r\n"

VARIANTS = [
    *(
        message(length, coding, body=EMPTY + SMUGGLED)
        for coding in CODINGS
        for length in (b"", b"Content-Length: %d\r\n" % len(EMPTY + SMUGGLED), b"Content-Length: 4\r\n")
    ),
    *(message(b"Content-Length: " + length + b"\r\n", body=SMUGGLED) for length in LENGTHS),
    *(message(CHUNKED, body=chunk + SMUGGLED) for chunk in CHUNKS),
    *(
        message(fields, LENGTH, body=SMUGGLED, start=start)
        for start in (b"GET /one HTTP/1.1", b"HEAD /one HTTP/1.1", b"POST /one HTTP/1.0",
                      b"OPTIONS * HTTP/1.1", b"POST http://i/one HTTP/1.1", b"CONNECT h:80 HTTP/1.1",
                      b"POST /one HTTP/1.2", b"GET /one#x HTTP/1.1", b"GET /one?a b HTTP/1.1")
        for fields in (b"", UPGRADE, EXPECT, b"Connection: Content-Length\r\n",
                       b"Connection: close, X-Count\r\n", b"Connection: keep-alive\r\n")
    ),
    *(
        message(fields, CHUNKED, body=CHUNK + EMPTY, start=start)
        for start in (b"GET /one HTTP/1.1", b"HEAD /one HTTP/1.1", b"POST /one HTTP/1.0")
        for fields in (b"", UPGRADE, EXPECT, b"Connection: Transfer-Encoding\r\n", b"Expect: x\r\n")
    ),
    message(b"X: y\r\n\tz\r\n", LENGTH, body=SMUGGLED),
    message(b"X-Count: mine\r\nX_Count: mine\r\n", LENGTH, body=SMUGGLED),
    b"\r\n\n" + message(LENGTH, body=SMUGGLED),
]  # fmt: skip

NGINX = """
worker_processes 1; daemon off; pid {tmp}/nginx.pid; error_log {tmp}/nginx.log notice; {user}
events {{ worker_connections 4096; }}
http {{
    log_format counted '$request_id $request_uri';
    access_log {tmp}/nginx-counted.log counted;
    keepalive_timeout 500ms; client_header_timeout 500ms; client_body_timeout 500ms;
    lingering_close off; client_body_temp_path {tmp}/body; proxy_temp_path {tmp}/proxy;
    fastcgi_temp_path {tmp}/f; uwsgi_temp_path {tmp}/u; scgi_temp_path {tmp}/s;
    proxy_http_version 1.1; proxy_next_upstream off;
    upstream behind {{ server 127.0.0.1:{port}; keepalive 8; }}
    server {{
        listen unix:{tmp}/nginx.sock;
        location / {{
            proxy_pass http://behind; proxy_set_header Connection "";
            proxy_set_header X-Count $request_id;
        }}
    }}
    server {{
        listen unix:{tmp}/nginx-lenient.sock;
        ignore_invalid_headers off; underscores_in_headers on; proxy_request_buffering off;
        location / {{
            proxy_pass http://behind; proxy_set_header Connection $http_connection;
            proxy_set_header Upgrade $http_upgrade; proxy_set_header X-Count $request_id;
        }}
    }}
}}
"""

HAPROXY = """
global
    nbthread 1  # of two that write to the log at once, one gives its line up
    log stdout format raw local0
defaults
    mode http
    log global
    option dontlognull
    timeout connect 10s
    timeout server 1s
    timeout client 500ms
    timeout http-request 500ms
    timeout http-keep-alive 500ms
    retries 0
    unique-id-format h%rt-%pid
    log-format "%ID %HU"
frontend strict
    bind fd@{strict}
    http-request set-header X-Count %[unique-id]
    default_backend behind
frontend lenient
    bind fd@{lenient}
    option accept-invalid-http-request
    http-request set-header X-Count %[unique-id]
    default_backend behind
backend behind
    http-reuse always
    server one 127.0.0.1:{port}
"""


@contextmanager
def counting_nginx(directory: Path, port: int) -> Iterator[Path]:
    """nginx in front of ``port``. Gives the log of what it counts."""
    with nginx(NGINX.format(tmp=directory, port=port, user=OUR_USER), directory):
        yield directory / "nginx-counted.log"


@contextmanager
def counting_haproxy(directory: Path, port: int) -> Iterator[Path]:
    """The same for HAProxy."""
    counted = directory / "haproxy-counted.log"
    with (
        counted.open("w") as log,
        unix_listener(directory / "haproxy.sock") as strict,
        unix_listener(directory / "haproxy-lenient.sock") as lenient,
        haproxy(
            HAPROXY.format(strict=strict.fileno(), lenient=lenient.fileno(), port=port),
            directory, [strict, lenient], log,
        ),
    ):  # fmt: skip
        yield counted


def unix_listener(path: Path) -> socket.socket:
    """Clients can connect from now on, and are accepted when HAProxy is there."""
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen(4096)
    return sock


def exchange(path: Path, messages: list[bytes]) -> int:
    """Send each on a connection of its own, and read until all are closed. Returns the answers."""
    answers, poll, clients = 0, select.poll(), {}
    for octets in messages:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(path))
        clients[sock.fileno()] = sock
        poll.register(sock, select.POLLIN)
        sock.sendall(octets)
    while clients:
        for fd, _ in poll.poll(WAIT * 1000):
            try:
                octets = clients[fd].recv(65536)
            except ConnectionResetError:
                octets = b""
            answers += octets.count(b"HTTP/1.1 200 ")
            if not octets:
                poll.unregister(fd)
                clients.pop(fd).close()
    return answers


def unescaped(line: str, escape: str) -> str:
    return re.sub(rf"{escape}([0-9A-Fa-f]{{2}})", lambda found: chr(int(found[1], 16)), line)


@pytest.mark.parametrize(
    ("proxy", "counting", "escape"),
    [("nginx", counting_nginx, r"\\x"), ("haproxy", counting_haproxy, "#")],
)
def test_no_request_behind_a_proxy_that_it_did_not_count(
    start: Callable[..., Server],
    tmp_path: Path,
    proxy: str,
    counting: Callable[[Path, int], AbstractContextManager[Path]],
    escape: str,
) -> None:
    log = tmp_path / "access.log"
    server = start(
        "-w", "2", "--access-logfile", str(log), "--access-logformat", "%({x-count}i)s %(s)s %(r)s",
        "recorder",
    )  # fmt: skip
    messages = [octets + AFTER for octets in VARIANTS]
    messages += [case.octets for case in cases()]
    with counting(tmp_path, server.port) as counted_log:
        for way in ("", "-lenient"):
            answers = exchange(tmp_path / f"{proxy}{way}.sock", messages)
            assert answers > 100
    lines = counted_log.read_text(errors="backslashreplace").splitlines()
    counted = dict(unescaped(line, escape).split(" ", 1) for line in lines if " " in line)
    assert server.stop() == 0
    behind = [line.split(" ", 2) for line in log.read_text().splitlines()]
    seen = Counter(count for count, _, _ in behind if count != "-")
    assert not [count for count in seen if count not in counted], "not counted by the proxy"
    assert not [count for count in seen if seen[count] > 1], "one request, taken for several"
    # What is refused before its fields are known has no id. Its target must be that of a request
    # that the proxy counted, and that is seen nowhere else.
    unseen = Counter(target for count, target in counted.items() if count not in seen)
    for count, status, line in behind:
        if count == "-":
            assert status[0] in "45", line
            found = re.match(r"[A-Z]+ (\S*)", unescaped(line, r"\\x"))
            assert found, f"no request: {line}"
            unseen[found[1]] -= 1
            assert unseen[found[1]] >= 0, f"{line}: more than the proxy counted"
