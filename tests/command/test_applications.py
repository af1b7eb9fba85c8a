"""Applications of many frameworks, as they are, and between validators of the contract."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from tests.command.harness import Server, pieces

Start = Callable[..., Server]
BIG = bytes(range(256)) * 4000
FAILURES = ("failed on purpose", "ERROR in app: Exception on /br")
SITES = ["bottle", "cherrypy", "falcon", "flask", "pyramid", "whitenoise"]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """The environment of a site, with a directory to serve."""
    (tmp_path / "big.bin").write_bytes(BIG)
    return {"FILES": str(tmp_path)}


def exercise(url: str) -> None:
    """What all of them are asked, on connections that persist."""
    with requests.Session() as session:
        session.headers["Accept-Encoding"] = "identity"
        assert session.get(f"{url}/", timeout=30).text == "index"
        stream = session.get(f"{url}/stream", timeout=30)
        assert stream.headers["Transfer-Encoding"] == "chunked"
        assert stream.text == "".join(f"{number}\n" for number in range(2000))
        for size in (3, 500_000):
            answer = session.post(
                f"{url}/form", data={"name": "n"}, files={"file": ("f", b"x" * size)}, timeout=30
            )
            form = answer.json()
            assert (form["name"], form["size"]) == ("n", size)
        checksum = {"sha256": hashlib.sha256(BIG).hexdigest()}
        octets = {"Content-Type": "application/octet-stream"}
        for body in (BIG, pieces(BIG)):
            answer = session.post(f"{url}/upload", data=body, headers=octets, timeout=30)
            assert answer.json() == checksum
        for size in (10, 200_000, 3_000_000):
            body = b"GET /evil HTTP/1.1\r\n\r\n".ljust(size)
            answer = session.post(f"{url}/ignore", data=body, headers=octets, timeout=30)
            assert answer.text == "ignored"
            assert session.post(f"{url}/broken", data=body, timeout=30).status_code == 500
            assert session.get(f"{url}/", timeout=30).text == "index"
        assert session.get(f"{url}/nowhere", timeout=30).status_code == 404
        exercise_files(session, f"{url}/files/big.bin")
        # Last, because it closes the connection.
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            session.get(f"{url}/breaks", timeout=30)
        assert session.get(f"{url}/", timeout=30).text == "index"


def exercise_files(session: requests.Session, url: str) -> None:
    whole = session.get(url, timeout=30)
    assert whole.content == BIG
    assert whole.headers["Content-Length"] == str(len(BIG))
    head = session.head(url, timeout=30)
    assert head.headers["Content-Length"] == str(len(BIG)) and not head.content
    modified = {"If-Modified-Since": whole.headers["Last-Modified"]}
    assert session.get(url, headers=modified, timeout=30).status_code == 304
    for first, last in ((0, 99), (1000, 300_000), (len(BIG) - 5, len(BIG) - 1)):
        part = session.get(url, headers={"Range": f"bytes={first}-{last}"}, timeout=30)
        assert part.status_code == 206
        assert part.headers["Content-Range"] == f"bytes {first}-{last}/{len(BIG)}"
        assert part.content == BIG[first : last + 1]


@pytest.mark.parametrize("site", SITES)
def test_site(start: Start, files: dict[str, str], site: str) -> None:
    server = start(f"{site}_site", env=files, errors=FAILURES)
    exercise(server.url)


@pytest.mark.parametrize("site", SITES)
def test_site_between_validators(start: Start, files: dict[str, str], site: str) -> None:
    server = start(f"validated:make('{site}_site')", env=files, errors=FAILURES)
    exercise(server.url)
    server.stop()
    assert "AssertionError" not in server.log
    assert "without being closed" not in server.log


def test_cherrypy_errors(start: Start, files: dict[str, str]) -> None:
    server = start("cherrypy_site", env=files, errors=FAILURES)
    with server.connect() as client:
        for path in ("/broken", "/broken_stream", "/breaks_in_its_page"):
            assert client.get(path)[0] == 500
            assert client.get("/") == (200, b"index")
        client.send(b"GET /breaks HTTP/1.1\r\nHost: h\r\n\r\n")
        octets = client.rest()
        assert octets.startswith(b"HTTP/1.1 200 OK\r\n") and octets.endswith(
            b"\r\n\r\n3\r\none\r\n"
        )
        assert octets.count(b"HTTP/1.1") == 1
    assert server.get("/") == (200, b"index")


def test_cherrypy_sessions(start: Start, files: dict[str, str]) -> None:
    server = start("-w", "2", "cherrypy_site", env=files)
    server.wait_for("is ready", count=2)
    with requests.Session() as session:
        for count in range(1, 21):
            # Each on a connection of its own, so that both workers get some.
            answer = session.get(f"{server.url}/count", headers={"Connection": "close"}, timeout=30)
            assert answer.text == str(count)


def test_sentry(start: Start) -> None:
    """A middleware that wraps the iterable: it sees every failure, and the client is told as if it
    were not there."""
    server = start("sentry_site", errors=("failed on purpose",))
    with server.connect() as client:
        assert client.get("/hello") == (200, b"hello")
        assert client.get("/stream?2") == (200, b"x" * (2 << 20))
        assert client.get("/fail")[0] == 500
        server.wait_for("reported RuntimeError http://h/fail")
        client.send(b"GET /failing HTTP/1.1\r\nHost: h\r\n\r\n")
        assert client.rest().endswith(b"\r\n\r\n3\r\none\r\n")
        server.wait_for("reported RuntimeError http://h/failing")
    assert server.get("/hello") == (200, b"hello")
