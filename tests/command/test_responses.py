"""Streams and files, by the real command."""

import hashlib
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from tests.command.harness import Server, descriptors, peak_memory
from tests.conftest import need

Start = Callable[..., Server]
REQUEST = b"GET /%b HTTP/1.1\r\nHost: h\r\n\r\n"


def test_a_block_leaves_when_it_is_yielded(start: Start, gate: Path) -> None:
    """The next one is not allowed before the client has read the last octet of this one."""
    server = start("responses")
    with server.connect() as client, client.socket.makefile("rb") as lines:
        client.send(REQUEST % f"gated?{gate}".encode())
        with open(gate, "w") as allow:
            while lines.readline() != b"\r\n":
                pass
            for number in range(10):
                block = b"block %d\n" % number
                assert lines.readline() == b"%x\r\n" % len(block)
                assert lines.read(len(block) + 2) == block + b"\r\n"
                if number < 9:
                    allow.write(f"{number + 1}\n")
                    allow.flush()
        assert lines.readline() == b"0\r\n"


def test_memory_stays_flat_for_a_long_stream(start: Start) -> None:
    server = start("responses")
    (worker,) = server.workers()
    before = peak_memory(worker)
    received = hashlib.sha256()
    with requests.get(f"{server.url}/large", stream=True, timeout=30) as response:
        for octets in response.iter_content(1 << 20):
            received.update(octets)
    sent = hashlib.sha256()
    for number in range(3200):
        sent.update(b"%08d" % number * 8192)
    assert received.digest() == sent.digest()
    assert peak_memory(worker) - before < 8 << 20


def test_a_client_that_goes_away_is_one_line_in_the_access_log(
    start: Start, tmp_path: Path
) -> None:
    log = tmp_path / "access.log"
    server = start("--access-logfile", str(log), "responses")
    with server.connect() as client:
        client.send(REQUEST % b"endless")
        client.socket.recv(1000)
    server.wait_for("^closed")
    assert server.get("/hello") == (200, b"hello")
    assert server.stop() == 0
    assert [line.split('"')[1] for line in log.read_text().splitlines()] == [
        "GET /endless HTTP/1.1", "GET /hello HTTP/1.1",
    ]  # fmt: skip
    assert server.lines.count("closed") == 1
    assert "Traceback" not in server.log


@pytest.mark.parametrize("site", ["flask_site", "django_site"])
def test_a_large_file_of_a_framework_holds_no_worker(
    start: Start, tmp_path: Path, site: str
) -> None:
    path = tmp_path / "large"
    with open(path, "wb") as file:
        for number in range(100):
            file.write(b"%08d" % number * 4096)
            file.seek((number + 1) << 20)
        file.truncate(100 << 20)
    server = start(site)
    (worker,) = server.workers()
    before = peak_memory(worker)
    with server.connect() as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.send(REQUEST % f"file?path={path}".encode())
        assert client.socket.recv(8) == b"HTTP/1.1"
        # It does not read on, and the only thread of the only worker does something else.
        assert server.get("/json" if site == "flask_site" else "/")[0] == 200
        assert holds_the_file(worker)
        received = hashlib.sha256()
        with client.socket.makefile("rb") as stream:
            while (line := stream.readline()) != b"\r\n":
                assert b"chunked" not in line
            for _ in range(100):
                received.update(stream.read(1 << 20))
        assert received.digest() == hashlib.sha256(path.read_bytes()).digest()
        # The next answer comes after the file is closed.
        assert client.get("/json" if site == "flask_site" else "/")[0] == 200
        assert not holds_the_file(worker)
    assert peak_memory(worker) - before < 20 << 20


def holds_the_file(worker: int) -> bool:
    return any(name.endswith("/large") for name in descriptors(worker))


def test_a_range_of_a_file(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 1000)
    server = start("flask_site")
    for asked, expected in (
        ("5-9", slice(5, 10)),
        ("-7", slice(-7, None)),
        ("200000-", slice(200000, None)),
    ):
        answer = requests.get(
            f"{server.url}/file?path={path}", headers={"Range": f"bytes={asked}"}, timeout=30
        )
        assert answer.status_code == 206
        assert answer.content == path.read_bytes()[expected]


def test_hints_and_no_server_header(start: Start) -> None:
    server = start("--no-server-header", "responses")
    curl = subprocess.run(
        [need("curl"), "-si", f"{server.url}/hints"], capture_output=True, check=True
    )
    heads = curl.stdout.split(b"\r\n\r\n")
    assert heads[0] == b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload"
    assert heads[1].startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Server" not in heads[1]
    assert heads[2] == b"hinted"
