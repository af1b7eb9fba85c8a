"""Flask and Django, as people use them: direct, and behind a real nginx."""

import hashlib
import json
import re
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.client import HTTPResponse
from pathlib import Path
from typing import BinaryIO, cast

import pytest
import requests
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.filepost import encode_multipart_formdata

from tests.command.harness import (
    Client,
    Server,
    descriptors,
    peak_memory,
    pieces,
    unix_client,
)
from tests.command.proxies import OUR_USER, complaints
from tests.command.proxies import nginx as run_nginx
from tests.conftest import need

Start = Callable[..., Server]
ROOT = Path(__file__).parents[2]
CSV = b"".join(b"%d,%d\n" % (number, number * number) for number in range(20000))


def test_flask(start: Start) -> None:
    server = start("-w", "2", "flask_site")
    with requests.Session() as session:
        answer = session.get(f"{server.url}/json?a=b", timeout=30)
        assert answer.json() == {"answer": 42, "args": {"a": "b"}}
        table = session.get(f"{server.url}/csv", timeout=30)
        assert table.headers["Transfer-Encoding"] == "chunked"
        assert table.text.splitlines()[-1] == "999,998001"
        form = session.post(
            f"{server.url}/form",
            data={"name": "n"},
            files={"file": ("f.bin", b"x" * 200_000)},
            timeout=30,
        )
        assert form.json() == {"name": "n", "filename": "f.bin", "size": 200_000}


def test_flask_routes_that_ignore_or_fail_do_not_disturb_the_next_request(start: Start) -> None:
    server = start("flask_site", errors=("ERROR in app",))
    with server.connect() as client:
        for body in (b"GET /evil HTTP/1.1\r\n\r\n", b"x" * 300_000):
            for route, status in (("ignore", 200), ("fails", 500), ("ignore", 200)):
                client.send(
                    f"POST /{route} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                )
                client.send(body)
                assert client.response().status == status
                assert client.get("/json")[0] == 200


def flask_form(name: str, file: bytes, chunked: bool) -> bytes:
    """The octets of a POST to /form."""
    body, media_type = encode_multipart_formdata({"name": name, "file": ("f.bin", file)})
    head = f"POST /%s HTTP/1.1\r\nHost: h\r\nContent-Type: {media_type}\r\n"
    if not chunked:
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    blocks = (body[at : at + 5000] for at in range(0, len(body), 5000))
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(block), block) for block in blocks)
    return f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunks + b"0\r\n\r\n"


@pytest.mark.parametrize("chunked", [False, True])
def test_flask_forms_on_one_connection(start: Start, chunked: bool) -> None:
    """Read, ignored, or failed upon: each next request is right."""
    server = start("flask_site", errors=("Exception on /fails",))
    file = b"POST /fails HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n" * 1000
    routes = (b"form", b"ignore", b"fails", b"form", b"fails", b"ignore", b"ignore", b"form")
    posts = [
        flask_form(f"n{number}", file, chunked).replace(b"%s", route, 1)
        for number, route in enumerate(routes)
    ]
    statuses = [500 if route == b"fails" else 200 for route in routes]
    forms = [b"n%d" % number for number, route in enumerate(routes) if route == b"form"]
    with server.connect() as client:
        for number, post in enumerate(posts):
            client.send(post)
            answer = client.response()
            assert answer.status == statuses[number]
            if routes[number] == b"form":
                form = {"name": f"n{number}", "filename": "f.bin", "size": len(file)}
                assert json.loads(answer.content) == form  # type: ignore[attr-defined]
        client.send(b"".join(posts) + b"GET /json HTTP/1.0\r\n\r\n")
        octets = client.rest()
    assert [int(code) for code in re.findall(rb"HTTP/1.1 (\d+)", octets)] == [*statuses, 200]
    assert re.findall(rb'"name":"(\w+)"', octets) == forms


def test_the_debugger_of_werkzeug(start: Start) -> None:
    """Its page, what the page loads, and the console in a frame of the request that failed."""
    server = start("flask_site:debugger()")
    with requests.Session() as session:
        page = session.get(f"{server.url}/debugged", timeout=30)
        assert page.status_code == 500 and "RuntimeError: failed on purpose, 42" in page.text
        for name in ("style.css", "debugger.js", "console.png"):
            query = {"__debugger__": "yes", "cmd": "resource", "f": name}
            resource = session.get(f"{server.url}/debugged", params=query, timeout=30)
            assert resource.ok and len(resource.content) > 100
        secret = re.findall(r'SECRET = "(\w+)"', page.text)[0]
        frame = re.findall(r'id="frame-(\d+)"', page.text)[-1]
        query = {"__debugger__": "yes", "cmd": "secret * 2", "frm": frame, "s": secret}
        answer = session.get(f"{server.url}/debugged", params=query, timeout=30)
        assert ">84<" in answer.text


def test_flask_stream_that_breaks(start: Start) -> None:
    server = start("flask_site", errors=("failed on purpose",))
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        requests.get(f"{server.url}/breaks", timeout=30)
    curl = need("curl")
    for option, status in (("--http1.1", 18), ("--http1.0", 56)):  # "partial file", and a reset
        command = [curl, "-s", option, f"{server.url}/breaks"]
        result = subprocess.run(command, capture_output=True, check=False)
        assert result.returncode == status
        assert result.stdout == b"one" or status == 56


def exercise_django(session: requests.Session, url: str) -> None:
    assert session.get(url, timeout=30).text == "django"
    stream = session.get(f"{url}/stream", timeout=30)
    assert stream.headers["Transfer-Encoding"] == "chunked"
    assert stream.content == CSV
    for size in (0, 1000, 3_000_000):
        body = b"z" * size
        expected = {"length": size, "sha256": hashlib.sha256(body).hexdigest()}
        assert session.post(f"{url}/upload", data=body, timeout=30).json() == expected
    form = session.post(
        f"{url}/form", data={"name": "n"}, files={"file": ("f", b"x" * 2_000_000)}, timeout=30
    )
    assert form.json() == {"name": "n", "size": 2_000_000}


@pytest.mark.parametrize("site", ["django_site", "validated:make('django_site')"])
def test_django(start: Start, site: str) -> None:
    server = start("-w", "2", site)
    with requests.Session() as session:
        exercise_django(session, server.url)


def check_big(raw: BinaryIO, gate: Path) -> None:
    """Read the response of /big: its first line before it goes on, and then 200 MB."""
    assert raw.readline() == b"number,square\n"
    gate.open("w").close()
    expected = b"1234567,1524155677489\n" * 3000
    for _ in range(3100):
        assert raw.read(len(expected)) == expected
    assert raw.read() == b""


def test_a_big_stream_of_django(start: Start, gate: Path) -> None:
    """Its first octets arrive at once, and no memory holds the rest."""
    server = start("django_site")
    with server.connect() as client:
        assert client.get("/")[0] == 200
        (worker,) = server.workers()
        before = peak_memory(worker)
        client.send(f"GET /big?{gate} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        with HTTPResponse(client.socket) as response:
            response.begin()
            assert response.getheader("Transfer-Encoding") == "chunked"
            check_big(cast(BinaryIO, response), gate)
        assert peak_memory(worker) - before < 4 << 20
        assert client.get("/")[0] == 200


def test_a_big_stream_of_django_through_nginx(
    start: Start, nginx: Callable[[str], str], gate: Path
) -> None:
    server = start("django_site")
    front = nginx(f"127.0.0.1:{server.port}")
    with unix_client(Path(front)) as client:
        client.send(f"GET /big?{gate} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        with HTTPResponse(client.socket) as response:
            response.begin()
            assert response.getheader("Transfer-Encoding") == "chunked"
            assert response.getheader("Content-Length") is None
            check_big(cast(BinaryIO, response), gate)
        assert client.get("/")[0] == 200


def test_a_file_response_of_django(start: Start, tmp_path: Path) -> None:
    content = bytes(range(256)) * 20_000
    (tmp_path / "big.bin").write_bytes(content)
    server = start("django_site", env={"FILES": str(tmp_path)})
    with server.connect() as client:
        for _ in range(3):
            client.send(b"GET /attachment HTTP/1.1\r\nHost: h\r\n\r\n")
            response = client.response()
            assert response.getheader("Content-Length") == str(len(content))
            assert 'filename="big.bin"' in (response.getheader("Content-Disposition") or "")
            assert response.content == content  # type: ignore[attr-defined]
            client.send(b"HEAD /attachment HTTP/1.1\r\nHost: h\r\n\r\n")
            response = client.response("HEAD")
            assert response.getheader("Content-Length") == str(len(content))
        assert client.get("/")[0] == 200  # so that the call before is over
        (worker,) = server.workers()
        assert not [path for path in descriptors(worker) if path.endswith("big.bin")]


@pytest.mark.parametrize("count", [400, 20_000])
def test_a_chunked_upload_arrives_in_django(start: Start, count: int) -> None:
    """Django reads CONTENT_LENGTH octets: a body that was collected has one, however long it is."""
    server = start("django_site")
    body = bytes(range(256)) * count
    answer = requests.post(f"{server.url}/upload", data=pieces(body), timeout=30)
    assert answer.json() == {"length": len(body), "sha256": hashlib.sha256(body).hexdigest()}


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """``nginx("127.0.0.1:8000")`` starts conf/nginx.conf in front of that, and returns its path.

    ``options`` are those of its socket, and directives behind them.
    """
    with ExitStack() as running:

        def starter(upstream: str, options: str = "") -> str:
            socket_path = tmp_path / "front.sock"
            own_log = f"error_log {tmp_path}/nginx.log notice;"
            text = (ROOT / "conf" / "nginx.conf").read_text()
            for old, new in (
                ("listen 80;", f"listen unix:{socket_path}{options};"),
                ("server 127.0.0.1:8000;", f"server {upstream};"),
                ("/run/nginx.pid", f"{tmp_path}/nginx.pid"),
                ("/var/log/nginx/", f"{tmp_path}/"),
                ("worker_processes auto;", f"worker_processes 1; {OUR_USER} daemon off; {own_log}"),
            ):
                assert old in text
                text = text.replace(old, new)
            running.enter_context(run_nginx(text, tmp_path))
            return str(socket_path)

        yield starter
    for path in (tmp_path / "error.log", tmp_path / "nginx.log"):
        assert not path.exists() or complaints(path) == []


class UnixAdapter(requests.adapters.HTTPAdapter):
    """requests over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def get_connection_with_tls_context(self, *args: object, **kwargs: object) -> object:  # type: ignore[override]
        path = self.path

        class Connection(HTTPConnection):
            def connect(self) -> None:
                self.sock = socket.socket(socket.AF_UNIX)
                self.sock.connect(path)

        class Pool(HTTPConnectionPool):
            ConnectionCls = Connection

        return Pool("localhost")


@pytest.mark.parametrize("upstream", ["tcp", "unix"])
def test_django_behind_nginx(
    start: Start, nginx: Callable[[str], str], tmp_path: Path, upstream: str
) -> None:
    path = tmp_path / "back.sock"
    server = start("-w", "2", "-b", "127.0.0.1:0", "-b", f"unix:{path}", "django_site")
    server.wait_for("is ready", count=2)
    front = nginx(f"127.0.0.1:{server.port}" if upstream == "tcp" else f"unix:{path}")
    with requests.Session() as session:
        session.mount("http://", UnixAdapter(front))
        exercise_django(session, "http://localhost")
    # Through reloads nginx keeps its connections, and no request is lost.
    with requests.Session() as session:
        session.mount("http://", UnixAdapter(front))
        for generation in range(2, 5):
            assert session.get("http://localhost/", timeout=30).text == "django"
            server.reload(generation)
            assert session.get("http://localhost/", timeout=30).text == "django"


def test_the_client_behind_nginx_is_the_one_that_the_application_sees(
    start: Start, nginx: Callable[..., str], tmp_path: Path
) -> None:
    """By TLS and from elsewhere, as nginx tells it; what the client says of itself does not count."""
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "certificate.pem")
    subprocess.run(
        [need("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-subj", "/CN=shop.example", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    server = start("--access-logfile", "-", "plain", stdout=subprocess.PIPE)
    front = nginx(
        f"127.0.0.1:{server.port}",
        f" ssl proxy_protocol; ssl_certificate {certificate}; ssl_certificate_key {key};"
        "set_real_ip_from unix:; real_ip_header proxy_protocol",
    )
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(30)
    sock.connect(front)
    sock.sendall(b"PROXY TCP4 192.0.2.7 192.0.2.8 4711 443\r\n")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(certificate)
    forged = "".join(
        f"{name}: {value}\r\n"
        for name, value in (
            ("X-Forwarded-For", "198.51.100.1"), ("X-Forwarded-Proto", "http"), ("X-Forwarded-Host", "evil"),
            ("X-Forwarded-Port", "81"), ("Forwarded", "for=198.51.100.1;proto=http;host=evil"),
        )
    )  # fmt: skip
    with (
        context.wrap_socket(sock, server_hostname="shop.example") as secured,
        Client(secured) as client,
    ):
        found = {}
        for name in ("REMOTE_ADDR", "wsgi.url_scheme", "HTTP_HOST", "SERVER_NAME", "SERVER_PORT"):
            client.send(
                f"GET /environ?{name} HTTP/1.1\r\nHost: shop.example\r\n{forged}\r\n".encode()
            )
            found[name] = client.response().content.decode()  # type: ignore[attr-defined]
    assert found == {
        "REMOTE_ADDR": "192.0.2.7", "wsgi.url_scheme": "https", "HTTP_HOST": "shop.example",
        "SERVER_NAME": "shop.example", "SERVER_PORT": "443",
    }  # fmt: skip
    assert server.stop() == 0
    lines = server.process.stdout.read().splitlines()  # type: ignore[union-attr]
    assert [line.split()[0] for line in lines] == ["192.0.2.7"] * 5
