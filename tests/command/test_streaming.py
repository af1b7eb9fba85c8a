"""A streaming echo: a chunk in, a chunk out, while the request is still being sent.

The application is code for uWSGI, with its `import uwsgi`, on a `stream_path`.
"""

import socket
from collections.abc import Callable
from http.client import HTTPResponse
from pathlib import Path

import pytest

from tests.command.harness import WAIT, Client, Server, unix_client
from tests.command.proxies import OUR_USER, complaints, haproxy, nginx

Start = Callable[..., Server]
OPTIONS = ("--uwsgi-api", "--stream-path", "/up", "chunk_echo")
HEAD = "POST {} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"

NGINX = """
worker_processes 1; {user} daemon off; pid {dir}/nginx.pid; error_log {dir}/nginx.log notice;
events {{}}
http {{
    access_log off;
    server {{
        listen unix:{dir}/front.sock;
        location / {{
            proxy_pass http://127.0.0.1:{port};
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_request_buffering off;
            proxy_buffering off;
        }}
    }}
}}
"""

HAPROXY = """
defaults
    mode http
    option http-no-delay
    timeout connect 30s
    timeout client 30s
    timeout server 30s
listen front
    bind fd@{fd}
    server back 127.0.0.1:{port}
"""


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(content), content)


def converse(client: Client, path: str = "/up") -> None:
    """Each chunk is answered before the next one is sent; a long one arrives whole."""
    client.send(HEAD.format(path).encode())
    response: HTTPResponse | None = None
    for content in (b"one", b"two", b"\r\n", b"x" * 100_000, b"last"):
        client.send(chunk(content))
        if response is None:
            response = HTTPResponse(client.socket, method="POST")
            response.begin()
            assert response.status == 200
        echo = b""
        while len(echo) < len(content):
            piece = response.read1(len(content) - len(echo))
            assert piece, "the answer ended before the request"
            echo += piece
        assert echo == content
    client.send(b"0\r\nX: trailer\r\n\r\n")
    assert response is not None
    assert response.read() == b""


def test_directly(start: Start) -> None:
    server = start(*OPTIONS)
    with server.connect() as client:
        converse(client)
    with server.connect() as client:
        converse(client, "/up/patient")
    with server.connect() as client:  # chunks that come together stay apart
        client.send(HEAD.format("/up").encode() + chunk(b"a") + chunk(b"bc") + b"0\r\n\r\n")
        octets = b""
        while not octets.endswith(b"0\r\n\r\n"):
            octets += client.socket.recv(65536)
        assert octets.partition(b"\r\n\r\n")[2] == chunk(b"a") + chunk(b"bc") + b"0\r\n\r\n"


def test_behind_nginx(start: Start, tmp_path: Path) -> None:
    server = start(*OPTIONS)
    with (
        nginx(NGINX.format(user=OUR_USER, dir=tmp_path, port=server.port), tmp_path),
        unix_client(tmp_path / "front.sock") as client,
    ):
        converse(client)
        converse(client, "/up/patient")
    assert complaints(tmp_path / "nginx.log") == []


def test_behind_haproxy(start: Start, tmp_path: Path) -> None:
    server = start(*OPTIONS)
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        haproxy(HAPROXY.format(fd=listener.fileno(), port=server.port), tmp_path, [listener]),
        Client(socket.create_connection(listener.getsockname(), timeout=WAIT)) as client,
    ):
        converse(client)
        converse(client, "/up/patient")


def test_a_call_that_waits_for_ever_keeps_no_worker_from_leaving(start: Start) -> None:
    server = start("--graceful-timeout", "500ms", *OPTIONS, errors=("graceful_timeout",))
    with server.connect() as client:
        client.send(HEAD.format("/up/patient").encode() + chunk(b"one"))
        octets = b""
        while b"one" not in octets:
            octets += client.socket.recv(65536)
        server.signal("TERM")
        with pytest.raises((ConnectionResetError, AssertionError)):
            # Cut off, or else at least not ended as a complete answer is.
            assert client.rest().endswith(b"0\r\n\r\n")
        server.wait()


def test_without_the_flag_there_is_no_module(start: Start) -> None:
    server = start("chunk_echo", up=False, errors=("chunk_echo", "no worker could boot"))
    server.wait_for("No module named 'uwsgi'")
    assert server.wait() == 3
