"""The command serves: requests, uploads, downloads, all of its workers."""

import hashlib
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pytest
import requests

from tests.command.harness import Server, page_faults, peak_memory
from tests.conftest import need

Start = Callable[..., Server]


def test_it_serves_and_stops(start: Start) -> None:
    server = start("plain")
    response = requests.get(server.url, timeout=30)
    assert (response.status_code, response.text) == (200, "hello")
    assert response.headers["Server"] == "forkserve"
    assert "Date" in response.headers
    assert server.stop() == 0


def test_a_session_keeps_its_connection(start: Start) -> None:
    server = start("plain")
    with requests.Session() as session:
        ports = {
            session.get(f"{server.url}/environ?REMOTE_PORT", timeout=30).text for _ in range(5)
        }
        counts = [
            session.get(f"{server.url}/environ?forkserve.requests", timeout=30).text
            for _ in range(3)
        ]
    assert len(ports) == 1
    assert counts == ["6", "7", "8"]


def test_all_workers_serve(start: Start) -> None:
    server = start("-w", "4", "plain")
    server.wait_for("is ready", count=4)
    slots: set[bytes] = set()
    clients = []
    while len(slots) < 4:
        # Connections that stay: an idle worker takes the next one.
        batch = [server.connect() for _ in range(8)]
        for client in batch:
            client.send(b"GET /slot HTTP/1.1\r\nHost: h\r\n\r\n")
        slots |= {client.response().content for client in batch}  # type: ignore[attr-defined]
        clients += batch
    assert slots == {b"0", b"1", b"2", b"3"}
    for client in clients:
        client.socket.close()


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_upload_in_bounded_memory(start: Start, chunked: bool) -> None:
    server = start("plain")
    size = 100 << 20
    block = bytes(range(256)) * 4096
    checksum = hashlib.sha256()
    for _ in range(size // len(block)):
        checksum.update(block)
    worker = server.workers()[0]
    before = peak_memory(worker)
    with server.connect() as client:
        if chunked:
            client.send(b"POST /sum HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(size // len(block)):
                client.send(b"%x\r\n" % len(block))
                client.send(block + b"\r\n")
            client.send(b"0\r\n\r\n")
        else:
            client.send(b"POST /sum HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % size)
            for _ in range(size // len(block)):
                client.send(block)
        expected = f"{size} {checksum.hexdigest()}".encode()
        assert client.response().content == expected  # type: ignore[attr-defined]
        assert client.get("/pid") == (200, b"%d" % worker)
    assert peak_memory(worker) - before < 8 << 20


def test_uploads_take_no_memory_anew(start: Start) -> None:
    server = start("plain")
    (worker,) = server.workers()
    clients = [server.connect() for _ in range(16)]
    head = b"POST /sum HTTP/1.1\r\nHost: h\r\nContent-Length: 65536\r\n\r\n"

    def upload(times: int) -> int:
        """So often by each client; returns how often the kernel gave the worker a page."""
        before = page_faults(worker)
        for _ in range(times):
            for client in clients:
                client.send(head + bytes(65535))
            for client in clients:
                client.send(b"\0")
            for client in clients:
                assert client.response().status == 200  # type: ignore[attr-defined]
        return page_faults(worker) - before

    # Its memory may still grow now and then, as it falls into pieces.
    assert median(upload(5) for _ in range(9)) < 40
    for client in clients:
        client.socket.close()


@pytest.mark.parametrize("size", [5, 100_000, 3 << 20])
@pytest.mark.parametrize("coding", [[], ["-H", "Transfer-Encoding: chunked"]])
def test_curl_waits_for_a_100_before_it_sends(
    start: Start, tmp_path: Path, size: int, coding: list[str]
) -> None:
    server = start("plain")
    path = tmp_path / "upload"
    path.write_bytes(b"x" * size)
    result = subprocess.run(
        [need("curl"), "-sS", "--dump-header", "-", "--expect100-timeout", "20", "-X", "POST",
         "-H", "Expect: 100-continue", *coding, "-T", path, f"{server.url}/sum"],
        capture_output=True, check=True, timeout=10,
    )  # fmt: skip
    answer = result.stdout.decode()
    assert answer.startswith("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert answer.count("HTTP/1.1") == 2
    assert answer.endswith(f"\r\n\r\n{size} {hashlib.sha256(b'x' * size).hexdigest()}")


def test_a_100_never_stands_in_a_response(start: Start) -> None:
    """The application answers before it reads: the client, told so by the answer, may send."""
    server = start("plain")
    size = 2 << 20
    with server.connect() as client:
        client.send(
            b"POST /early HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n"
            b"Content-Length: %d\r\n\r\n" % size
        )
        octets = b""
        while b"early" not in octets:
            octets += client.socket.recv(65536)
        client.send(b"x" * size)
        octets += client.rest()
    assert octets.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"100 Continue" not in octets
    assert b"%d" % size in octets


def test_an_endless_stream_has_a_head(start: Start) -> None:
    server = start("plain")
    with server.connect() as client:
        for _ in range(3):
            client.send(b"HEAD /endless HTTP/1.1\r\nHost: h\r\n\r\n")
            response = client.response("HEAD")
            assert (response.status, response.content) == (200, b"")  # type: ignore[attr-defined]
        assert client.get("/hello") == (200, b"hello")


def test_a_large_download_in_bounded_memory(start: Start) -> None:
    server = start("plain")
    worker = server.workers()[0]
    before = peak_memory(worker)
    with requests.get(f"{server.url}/stream?100", stream=True, timeout=30) as response:
        assert response.headers["Transfer-Encoding"] == "chunked"
        assert sum(len(block) for block in response.iter_content(1 << 20)) == 100 << 20
    assert peak_memory(worker) - before < 8 << 20


def test_a_413_can_be_read_although_the_client_is_still_sending(start: Start) -> None:
    server = start("--max-body", "1M", "plain")
    with server.connect() as client:
        client.send(b"POST /sum HTTP/1.1\r\nHost: h\r\nContent-Length: 50000000\r\n\r\n")
        for _ in range(50):
            client.send(b"x" * 1_000_000)
        response = client.response()
        assert response.status == 413
        assert response.getheader("Connection") == "close"
        assert client.rest() == b""


def test_an_unread_body_is_never_the_next_request(start: Start) -> None:
    server = start("plain")
    evil = b"GET /exit HTTP/1.1\r\nHost: h\r\n\r\n"
    for size in (len(evil), 60000, 2_000_000):
        body = (evil * (size // len(evil) + 1))[:size]
        with server.connect() as client:
            client.send(b"POST /ignore HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % size)
            client.send(body)
            response = client.response()
            assert response.content == b"ignored"  # type: ignore[attr-defined]
            if response.getheader("Connection") != "close":
                assert client.get("/hello") == (200, b"hello")
    assert server.get("/hello") == (200, b"hello")


def test_a_failing_stream_is_not_taken_for_a_complete_one(start: Start) -> None:
    server = start("plain", errors=("failed on purpose",))
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        requests.get(f"{server.url}/failing", timeout=30)
    server.wait_for("RuntimeError: failed on purpose, in the middle")
    with server.connect() as client:
        client.send(b"GET /failing HTTP/1.0\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            client.rest()
    assert server.get("/fail")[0] == 500
    assert server.get("/hello") == (200, b"hello")


def test_silent_and_half_sent_connections_delay_nobody(start: Start) -> None:
    server = start("plain")
    silent = []
    for number in range(600):
        sock = socket.create_connection(("127.0.0.1", server.port))
        if number % 3 == 1:
            sock.sendall(b"GET / HTTP/1.1\r\nHos")
        elif number % 3 == 2:
            sock.sendall(b"POST /sum HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nx")
        silent.append(sock)
    for _ in range(50):
        assert server.get("/hello") == (200, b"hello")
    for sock in silent:
        sock.close()


def test_http_1_0_and_keep_alive(start: Start) -> None:
    server = start("plain")
    with server.connect() as client:
        client.send(b"GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert client.response().getheader("Connection") == "keep-alive"
        client.send(b"GET /stream?1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        response = client.response()
        assert response.getheader("Transfer-Encoding") is None
        assert len(response.content) == 1 << 20  # type: ignore[attr-defined]
        assert client.rest() == b""


def test_wsgi_errors_goes_to_the_error_log(start: Start) -> None:
    server = start("plain")
    server.get("/print")
    server.wait_for("^to wsgi.errors: \u20ac$")
    server.wait_for("^and more$")


def test_the_demonstration(start: Start) -> None:
    server = start("-w", "2", "forkserve.demo:application")
    with requests.Session() as session:
        page = session.get(server.url, timeout=30)
        assert "It works." in page.text
        assert "Request 1 on this connection" in page.text
        who = session.get(f"{server.url}/who", timeout=30).json()
        assert who["pid"] in server.workers()
        assert who["requests"] == 2
        upload = session.post(f"{server.url}/upload", data=b"abc" * 1000, timeout=30).json()
        assert upload["length"] == 3000
        assert upload["sha256"] == hashlib.sha256(b"abc" * 1000).hexdigest()
        counter = session.get(f"{server.url}/count", stream=True, timeout=30)
        assert len(list(counter.iter_content(None))) >= 20
        assert session.get(f"{server.url}/nothing", timeout=30).status_code == 404
        assert session.delete(server.url, timeout=30).status_code == 405
