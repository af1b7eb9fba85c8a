"""The command with TLS and behind a proxy that speaks the PROXY protocol."""

import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from tests.certificates import Certificates
from tests.command.harness import WAIT, Client, Server, run, unix_client
from tests.command.proxies import haproxy
from tests.conftest import need

Start = Callable[..., Server]


def options(certificates: Certificates, name: str = "server") -> list[str]:
    return ["--certfile", certificates.pem(name), "--keyfile", certificates.key(name)]


def served(server: Server) -> str:
    """The certificate that a new client is shown."""
    return ssl.get_server_certificate(("127.0.0.1", server.port), timeout=WAIT)


def test_it_serves_https(start: Start, certificates: Certificates) -> None:
    server = start(*options(certificates), "-w", "2", "plain")
    assert server.url.startswith("https://")
    with requests.Session() as session:
        session.trust_env = False  # REQUESTS_CA_BUNDLE would win over the next line
        session.verify = certificates.pem("ca")
        for name, value in (
            ("wsgi.url_scheme", "https"),
            ("HTTPS", "on"),
            ("REMOTE_ADDR", "127.0.0.1"),
        ):
            assert session.get(f"{server.url}/environ?{name}", timeout=30).text == value
        assert session.get(f"{server.url}/environ?forkserve.requests", timeout=30).text == "4"
        response = session.post(f"{server.url}/sum", data=b"x" * 3_000_000, timeout=30)
        assert response.text.startswith("3000000 ")
        assert len(session.get(f"{server.url}/stream?20", timeout=30).content) == 20 << 20
    plain = requests.get(server.url.replace("https", "http"), timeout=30)
    assert (plain.status_code, "speaks HTTPS" in plain.text) == (400, True)
    assert server.stop() == 0


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_curl(start: Start, certificates: Certificates, version: str) -> None:
    server = start(*options(certificates), "--tls-min-version", version, "plain")
    command = [need("curl"), "-sS", "--cacert", certificates.pem("ca"), "--tls-max"]
    url = f"{server.url}/environ?SSL_PROTOCOL"
    for offered in ("1.2", "1.3"):
        result = subprocess.run(
            [*command, offered, url, url], capture_output=True, text=True, check=False
        )
        if offered < version:
            assert (result.returncode, result.stdout) == (35, "")
        else:
            assert (result.returncode, result.stdout) == (0, f"TLSv{offered}" * 2), result.stderr
    one_zero = [*command, version, "--http1.0", f"{server.url}/stream?3"]
    result = subprocess.run(one_zero, capture_output=True, check=True)
    assert len(result.stdout) == 3 << 20


def test_silent_handshakes_do_not_delay_the_stop(start: Start, certificates: Certificates) -> None:
    server = start(*options(certificates), "plain")
    silent = [server.connect() for _ in range(5)]
    assert requests.get(server.url, verify=certificates.pem("ca"), timeout=30).text == "hello"
    assert server.stop() == 0
    assert [client.rest() for client in silent] == [b""] * 5


def test_client_certificates(start: Start, certificates: Certificates) -> None:
    server = start(
        *options(certificates), "--ca-certs", certificates.pem("ca"), "--cert-reqs", "required", "plain"
    )  # fmt: skip
    with requests.Session() as session:
        session.trust_env = False  # REQUESTS_CA_BUNDLE would win over the next line
        session.verify = certificates.pem("ca")
        session.cert = (certificates.pem("client"), certificates.key("client"))
        text = session.get(f"{server.url}/environ?SSL_CLIENT_S_DN", timeout=30).text
        assert text.startswith("CN=alice,O=")
        session.cert = None
    with pytest.raises(requests.ConnectionError):
        requests.get(server.url, verify=certificates.pem("ca"), timeout=30)
    server.wait_for("DEBUG .* the TLS handshake with 127.0.0.1 failed: PEER_DID_NOT_RETURN")
    assert "Traceback" not in server.log


def test_hup_takes_a_new_certificate_and_refuses_a_bad_one(
    start: Start, certificates: Certificates, tmp_path: Path
) -> None:
    pem, key = tmp_path / "server.pem", tmp_path / "server.key"

    def install(name: str) -> str:
        shutil.copy(certificates.pem(name), pem)
        shutil.copy(certificates.key(name), key)
        return pem.read_text()

    first = install("server")
    server = start(
        "--certfile", str(pem), "--keyfile", str(key), "plain", errors=("reload refused",)
    )
    assert served(server) == first
    second = install("other")
    assert served(server) == first
    server.reload(2)
    server.wait_for("gen 1 .* has left")
    assert served(server) == second
    shutil.copy(certificates.key("client"), key)
    server.signal("HUP")
    line = server.wait_for(" ERROR .* reload refused, generation 2 goes on serving unchanged")[0]
    assert "is not that of the first certificate in" in line.string
    assert "Traceback" not in server.log
    assert served(server) == second
    first = install("server")
    server.reload(3)
    server.wait_for("gen 2 .* has left")
    assert served(server) == first


def test_an_expired_certificate_is_served_and_said_to_be_so(
    start: Start, certificates: Certificates, tmp_path: Path
) -> None:
    pem, key = tmp_path / "server.pem", certificates.key("server")
    request = certificates.openssl("req", "-new", "-key", key, "-subj", "/CN=localhost")
    (tmp_path / "request").write_text(request)
    certificates.openssl(
        "x509", "-req", "-in", str(tmp_path / "request"), "-signkey", key, "-days", "-1",
        "-out", str(pem),
    )  # fmt: skip
    expired = rf"the certificate {pem} \(`certfile` from --certfile\) expired on 20"
    arguments = ["--certfile", str(pem), "--keyfile", key]
    result = run(*arguments, "--check-config", "plain")
    assert result.returncode == 0
    assert re.search(expired, result.stderr)
    server = start(*arguments, "plain")
    server.wait_for(f"WARNING .* {expired}")
    assert served(server) == pem.read_text()
    server.reload(2)
    assert len(server.wait_for(expired, count=2)) == 2
    shutil.copy(certificates.pem("server"), pem)
    server.reload(3)
    assert len(server.wait_for(expired)) == 2


def test_a_bad_certificate_starts_nothing(certificates: Certificates) -> None:
    arguments = ["--certfile", certificates.pem("server"), "--keyfile", certificates.key("other")]
    for extra in (["-b", "127.0.0.1:0"], ["--check-config"]):
        result = run(*arguments, *extra, "plain")
        assert result.returncode == 1
        assert "is not that of the first certificate in" in result.stderr
        assert "Traceback" not in result.stderr


# ---- the PROXY protocol


def test_the_proxy_says_who_the_client_is(start: Start, tmp_path: Path) -> None:
    access = tmp_path / "access"
    server = start(
        "--proxy-protocol", "on", "--access-logfile", str(access), "--bind", f"unix:{tmp_path}/socket",
        "-b", "127.0.0.1:0", "plain", up=False,
    )  # fmt: skip
    server.url = server.wait_for(r"serves .* (http://\S+)")[0][1]
    server.port = int(server.url.rpartition(":")[2])
    server.wait_for("is ready")
    for connect in (server.connect, lambda: unix_client(tmp_path / "socket")):
        with connect() as client:
            client.send(b"PROXY TCP4 203.0.113.7 198.51.100.1 4242 80\r\n")
            assert client.get("/environ?REMOTE_ADDR") == (200, b"203.0.113.7")
            assert client.get("/environ?REMOTE_PORT") == (200, b"4242")
    assert server.get()[0] == 400
    server.stop()
    lines = access.read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["203.0.113.7"] * 4 + ["127.0.0.1"]


@pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2"])
def test_behind_haproxy(start: Start, tmp_path: Path, version: str) -> None:
    server = start("--proxy-protocol", "on", "plain")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = (
            "defaults\n mode http\n timeout connect 10s\n timeout client 10s\n timeout server 10s\n"
            f"listen it\n bind fd@{listener.fileno()}\n"
            f" server one 127.0.0.1:{server.port} {version}\n"
        )
        with (
            haproxy(config, tmp_path, [listener]),
            Client(socket.create_connection(listener.getsockname(), timeout=WAIT)) as client,
        ):
            own_port = str(client.socket.getsockname()[1]).encode()
            assert client.get("/environ?REMOTE_PORT") == (200, own_port)
            assert client.get("/environ?REMOTE_PORT") == (200, own_port)
