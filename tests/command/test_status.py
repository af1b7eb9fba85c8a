"""The status process, as load balancers, Prometheus and people ask it."""

import contextlib
import json
import os
import re
import resource
import signal
import socket
import struct
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.command.harness import WAIT, Server, children, clean_environ, unix_client, wait_for_death
from tests.conftest import need

Start = Callable[..., Server]
SERVES = r"the status page is on (\S+)"


class Status:
    """What asks the status process of a server."""

    def __init__(self, server: Server) -> None:
        self.url = server.wait_for(SERVES)[-1][1]
        self.port = urlsplit(self.url).port

    def ask(self, path: str) -> tuple[int, str]:
        """One request on a connection of its own."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def until(self, path: str, status: int) -> str:
        """Ask again and again, until it says so."""
        return self.until_it_has(path, "", status)

    def until_it_has(self, path: str, text: str, status: int = 200) -> str:
        """The same, until ``text`` is in it."""
        limit = time.monotonic() + WAIT
        while True:
            found, body = self.ask(path)
            if found == status and text in body:
                return body
            assert time.monotonic() < limit, f"{path}: {found} {body}"


def test_a_site_whose_name_points_to_this_machine_cannot_read_it(start: Start) -> None:
    """Whatever fields its page sends along: to its browser it is the page's own server."""
    server = start("plain", "--status", "127.0.0.1:0")
    status = Status(server)
    for fields in ({}, {"X-Forwarded-Host": "localhost"}, {"Forwarded": "host=localhost"}):
        request = urllib.request.Request(
            f"{status.url}/status.json", headers={"Host": "evil.example", **fields}
        )
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=30)
        with caught.value as answer:
            assert answer.code == 421
            assert b"answers to localhost and to addresses only" in answer.read()
    assert status.ask("/status.json")[0] == 200


@pytest.mark.parametrize(
    "half", [b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n"]
)
def test_who_says_half_of_what_he_wants_keeps_nobody_out_for_long(
    start: Start, half: bytes
) -> None:
    status = Status(start("plain", "--status", "127.0.0.1:0"))
    with contextlib.ExitStack() as stack:
        for _ in range(300):  # more than it holds
            sock = socket.create_connection(("127.0.0.1", status.port), timeout=30)
            stack.enter_context(sock)
            sock.sendall(half)
        began = time.monotonic()
        assert status.ask("/healthz") == (200, "alive\n")
        # 2 s, and 5 in which they could read what they are told; with the usual times it is 15.
        assert time.monotonic() - began < 12


def attendant(server: Server) -> int:
    """The pid of the status process."""
    for pid in children(server.pid):
        if b"forkserve: status" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    raise AssertionError(f"there is no status process among {children(server.pid)}")


def listens(pid: int, port: int) -> bool:
    """Whether the process holds the socket that listens on the port."""
    table = Path("/proc/net/tcp").read_text().splitlines()[1:]
    inodes = {
        row.split()[9]
        for row in table
        if row.split()[1].endswith(f":{port:04X}") and row.split()[3] == "0A"
    }
    assert inodes
    held = {os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    return any(f"socket:[{inode}]" in held for inode in inodes)


def test_it_answers_beside_the_application(start: Start) -> None:
    server = start("plain", "-w", "2", "--status", "127.0.0.1:0")
    status = Status(server)
    assert status.ask("/healthz") == (200, "alive\n")
    assert status.until("/readyz", 200) == "ready\n"
    assert "# TYPE forkserve_requests_total counter" in status.ask("/metrics")[1]
    assert status.ask("/")[1].startswith("<!doctype html>")
    assert status.ask("/pid")[0] == 404
    assert server.get("/slot")[0] == 200


def test_it_has_no_word_about_the_connections_of_workers(start: Start) -> None:
    def few_descriptors() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, 512))

    server = start(
        "plain", "--worker-connections", "100", "--status", "127.0.0.1:0",
        preexec_fn=few_descriptors,
    )  # fmt: skip
    assert Status(server).until("/readyz", 200) == "ready\n"
    assert "descriptors are allowed" not in server.log


def test_there_is_none_unless_it_is_asked_for(start: Start) -> None:
    server = start("plain", "-w", "2")
    assert len(children(server.pid)) == 2
    assert "status" not in server.log


@pytest.mark.parametrize("preload", [(), ("--preload",)])
def test_neither_holds_the_sockets_of_the_other(start: Start, preload: tuple[str, ...]) -> None:
    server = start("plain", *preload, "--status", "127.0.0.1:0")
    status = Status(server)
    status.until("/readyz", 200)
    worker = int(server.get("/pid")[1])
    assert listens(worker, server.port)
    assert not listens(worker, status.port)
    assert listens(attendant(server), status.port)
    assert not listens(attendant(server), server.port)


def test_its_death_touches_nobody_and_another_is_started(start: Start) -> None:
    server = start("plain", "--status", "127.0.0.1:0", errors=("the status process died",))
    status = Status(server)
    status.until("/healthz", 200)
    worker, first = server.get("/pid"), attendant(server)
    with server.connect() as client:
        client.get("/pid")
        os.kill(first, signal.SIGKILL)
        server.wait_for("the status process died: SIGKILL. The server goes on")
        assert status.until("/healthz", 200) == "alive\n"
        assert client.get("/pid") == worker
    assert attendant(server) != first


def test_one_that_a_service_manager_signals_is_replaced_without_a_word_of_alarm(
    start: Start,
) -> None:
    server = start("plain", "--status", "127.0.0.1:0")
    status = Status(server)
    status.until("/healthz", 200)
    first = attendant(server)
    os.kill(first, signal.SIGTERM)
    assert wait_for_death(first)
    assert status.until("/healthz", 200) == "alive\n"
    server.wait_for("INFO .* the status process was told to end by somebody else; it is replaced")


def test_a_reload_brings_another_only_if_its_own_settings_change(start: Start, app: Path) -> None:
    config = app / "forkserve.toml"
    config.write_text('status = ["127.0.0.1:0"]\nworkers = 1\n')
    server = start("-c", str(config), "shop", cwd=app)
    status = Status(server)
    status.until("/readyz", 200)
    first = attendant(server)
    config.write_text('status = ["127.0.0.1:0"]\nworkers = 2\n')
    server.signal("HUP")
    server.wait_for("HUP: reloaded, generation 2")
    assert attendant(server) == first
    config.write_text('status = ["127.0.0.1:0"]\nname = "other"\n')
    server.signal("HUP")
    server.wait_for("HUP: reloaded, generation 3")
    assert wait_for_death(first)
    assert status.ask("/healthz") == (200, "alive\n")
    config.write_text("workers = 1\n")
    last = attendant(server)
    server.signal("HUP")
    server.wait_for("HUP: reloaded, generation 4")
    assert wait_for_death(last)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", status.port or 0))


def test_a_unix_socket_is_removed_at_the_end(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "status.sock"
    server = start("plain", "--status", f"unix:{path},mode=600")
    server.wait_for(SERVES)
    assert path.stat().st_mode & 0o777 == 0o600
    with unix_client(path) as client:
        assert client.get("/healthz") == (200, b"alive\n")
    assert server.stop() == 0
    assert not path.exists()


def test_an_address_that_is_taken_is_told_at_the_start(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = start("plain", "--status", f"127.0.0.1:{taken.getsockname()[1]}", up=False)
        assert server.wait() == 1
    assert "another program is listening there" in server.log


def test_it_says_that_the_server_is_stopping_for_as_long_as_it_does(
    start: Start, gate: Path
) -> None:
    server = start("plain", "--status", "127.0.0.1:0")
    status = Status(server)
    status.until("/readyz", 200)
    with server.connect() as client:
        client.send(f"GET /wait?{gate} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        server.wait_for("waiting")
        server.signal("TERM")
        assert status.until("/readyz", 503) == "the server is stopping\n"
        assert status.ask("/healthz") == (200, "alive\n")
        gate.write_text("")
        assert client.response().status == 200
    assert server.wait() == 0


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_it_is_not_ready_while_the_listen_queue_is_full(
    start: Start, gate: Path, tmp_path: Path, kind: str
) -> None:
    bind = () if kind == "tcp" else ("-b", f"unix:{tmp_path}/app.sock")
    server = start("plain", "--backlog", "1", "--status", "127.0.0.1:0", *bind)
    status = Status(server)
    status.until("/readyz", 200)
    with ExitStack() as clients:
        connect = server.connect if kind == "tcp" else partial(unix_client, tmp_path / "app.sock")
        client = clients.enter_context(connect())
        client.send(f"GET /wait?{gate} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        server.wait_for("waiting")  # so the only worker accepts nobody, or perhaps one more
        for _ in range(2):
            clients.enter_context(connect())
        assert re.fullmatch(r"the listen queue of \S+ is full\n", status.until("/readyz", 503))
        gate.write_text("")
        assert client.response().status == 200
        status.until("/readyz", 200)


def test_drain_delay_serves_on_while_it_is_not_ready(start: Start) -> None:
    server = start("plain", "--status", "127.0.0.1:0", "--drain-delay", "1h")
    status = Status(server)
    status.until("/readyz", 200)
    with server.connect() as client:
        client.get("/pid")
        server.signal("TERM")
        server.wait_for("TERM: draining")
        assert status.until("/readyz", 503) == "the server is stopping\n"
        assert client.get("/pid")[0] == 200
        assert server.get("/pid")[0] == 200  # on a new connection
        server.signal("HUP")
        server.wait_for("HUP: ignored, because the server is about to stop")
        server.signal("TERM")
        server.wait_for("TERM: stopping")
    assert server.wait() == 0


def test_drain_delay_comes_to_its_end(start: Start) -> None:
    server = start("plain", "--drain-delay", "100ms")
    server.signal("TERM")
    server.wait_for("TERM: draining")
    server.wait_for("TERM: stopping")
    assert server.wait() == 0


def test_a_quick_stop_does_not_wait_for_it(start: Start) -> None:
    server = start("plain", "--status", "127.0.0.1:0", "--drain-delay", "1h")
    status = Status(server)
    status.until("/healthz", 200)
    first = attendant(server)
    server.signal("TERM")
    server.wait_for("TERM: draining")
    assert server.stop("QUIT") == 0
    assert wait_for_death(first)


def test_it_dies_with_its_master(start: Start) -> None:
    server = start("plain", "--status", "127.0.0.1:0")
    Status(server).until("/readyz", 200)
    pids = children(server.pid)
    server.process.kill()
    assert all(wait_for_death(pid) for pid in pids)


def test_after_an_upgrade_that_of_the_new_master_answers(start: Start, tmp_path: Path) -> None:
    server = start("plain", "--status", "127.0.0.1:0", "--pid", str(tmp_path / "pid"))
    status = Status(server)
    status.until("/readyz", 200)
    first = attendant(server)
    server.signal("USR2")
    server.wait_for("the upgrade is done")
    assert wait_for_death(first)
    successor = int((tmp_path / "pid").read_text())
    try:
        assert status.ask("/healthz") == (200, "alive\n")
        assert status.until("/readyz", 200) == "ready\n"
        assert json.loads(status.ask("/status.json")[1])["server"]["pid"] == successor
    finally:
        os.kill(successor, signal.SIGTERM)
        assert wait_for_death(successor)


def test_the_counters_are_those_of_the_workers(start: Start) -> None:
    server = start("plain", "-w", "2", "--status", "127.0.0.1:0", "--threads", "2")
    status = Status(server)
    with server.connect() as client:
        for _ in range(5):
            assert client.get("/pid")[0] == 200
    while (
        found := re.search(r"^forkserve_requests_total (\S+)$", status.ask("/metrics")[1], re.M)
    ) is None or float(found[1]) < 5:
        pass
    metrics = status.ask("/metrics")[1]
    assert 'forkserve_responses_total{class="2xx"} 5.0' in metrics
    assert 'forkserve_workers{state="serving"} 2.0' in metrics
    # It is looked at once a second, and at first a client may have waited there.
    status.until_it_has("/metrics", f'forkserve_listen_queue{{address="{server.url}"}} 0.0')


def test_paths_of_ours_on_the_main_address(start: Start) -> None:
    server = start(
        "plain", "--health-path", "/health", "--metrics-path", "/metrics", "--drain-delay", "1h"
    )
    while server.get("/health") == (503, b"no worker is ready\n"):
        pass  # the master has still to hear that one is
    assert server.get("/health") == (200, b"ready\n")
    assert b"forkserve_generation 1.0" in server.get("/metrics")[1]
    assert server.get("/pid")[1] != b"ready\n"
    server.signal("TERM")
    server.wait_for("TERM: draining")
    while server.get("/health") != (503, b"the server is stopping\n"):
        pass
    assert server.get("/pid")[0] == 200


def test_no_traceback_shows_what_stands_in_front(start: Start) -> None:
    server = start("plain", "--health-path", "/health", errors=("the application raised",))
    assert server.get("/fail")[0] == 500
    server.wait_for("RuntimeError")
    assert server.stop() == 0
    assert "forkserve/" not in server.log


def test_statsd_is_told_of_each_request(start: Start) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        udp.settimeout(30)
        server = start(
            "plain", "--user", str(os.geteuid()), "--statsd-host", f"127.0.0.1:{udp.getsockname()[1]}", "--statsd-prefix", "shop",
            "--dogstatsd-tags", "env:test", errors=("the application raised",),
        )  # fmt: skip
        gauges = [udp.recv(999), udp.recv(999)]
        assert gauges == [b"shop.gunicorn.workers:%d|g|#env:test" % count for count in (0, 1)]
        server.get("/pid")
        lines = udp.recv(999).decode().split("\n")
        assert re.fullmatch(r"shop\.gunicorn\.request\.duration:[0-9.]+\|ms\|#env:test", lines[0])
        assert lines[1:] == [
            "shop.gunicorn.requests:1|c|@1.0|#env:test",
            "shop.gunicorn.request.status.200:1|c|@1.0|#env:test",
        ]
        server.get("/fail")
        assert udp.recv(999) == b"shop.gunicorn.log.exception:1|c|@1.0|#env:test"
        assert b"shop.gunicorn.request.status.500:1|c" in udp.recv(999)
        server.signal("TTIN")
        assert udp.recv(999) == b"shop.gunicorn.workers:2|g|#env:test"


# ---- the page, in a browser

# What HTML would make of a target, if it were any: < and > themselves are refused with a 400.
HOSTILE = "&lt;img/src=x/onerror=document.title=1&gt;"


def browser(tmp_path: Path, width: int, *options: str) -> list[str]:
    """The words that start a headless Chromium with a profile of its own."""
    words = [
        need("chromium"), "--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--disable-extensions", "--no-proxy-server", "--hide-scrollbars", "--virtual-time-budget=4000",
        f"--user-data-dir={tmp_path}/profile", f"--window-size={width},1100", *options,
    ]  # fmt: skip
    return [*words, "--no-sandbox"] if os.geteuid() == 0 else words


@pytest.mark.parametrize(
    ("width", "options"),
    [(1200, ()), (1200, ("--blink-settings=preferredColorScheme=0",)), (500, ())],
    ids=["light", "dark", "phone"],
)
def test_the_page_shows_what_runs(
    start: Start, gate: Path, tmp_path: Path, width: int, options: tuple[str, ...]
) -> None:
    """A request target is text on it, and nothing that a browser would run. The picture is whole."""
    server = start("plain", "--status", "127.0.0.1:0")
    status = Status(server)
    status.until("/readyz", 200)
    picture = tmp_path / "page.png"
    with server.connect() as client:
        client.send(f"GET /wait/{HOSTILE}?{gate} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        server.wait_for("waiting")
        environ = {**clean_environ(), "HOME": str(tmp_path)}
        words = browser(tmp_path, width, *options)
        run = partial(
            subprocess.run, env=environ, capture_output=True, text=True, timeout=60, check=True
        )
        page = run([*words, "--dump-dom", status.url + "/"]).stdout
        run([*words, f"--screenshot={picture}", status.url + "/"])
        gate.write_text("")
        assert client.response().status == 200
    assert "<title>plain | forkserve</title>" in page
    assert re.search('<span id="state" class="pill green">ready</span>', page)
    assert page.count('class="lane"') == 1
    assert HOSTILE.replace("&", "&amp;") in page
    assert "<img" not in page
    assert page.count("<svg") == 4
    octets = picture.read_bytes()
    assert struct.unpack(">II", octets[16:24]) == (width, 1100)  # of IHDR, the first chunk of a PNG
    assert len(octets) > 30_000  # an empty page has a tenth of it


def test_the_page_shows_a_slot_that_nobody_fills(start: Start, app: Path, tmp_path: Path) -> None:
    server = start(
        "-w", "2", "--status", "127.0.0.1:0", "--name", "the shop", "shop", cwd=app,
        errors=("died: SIGKILL", "could not boot"),
    )  # fmt: skip
    status = Status(server)
    status.until("/readyz", 200)
    (app / "shop.py").write_text("raise RuntimeError('broken on purpose')")
    workers = json.loads(status.ask("/status.json")[1])["workers"]
    os.kill(next(worker["pid"] for worker in workers if worker["slot"] == 1), signal.SIGKILL)
    environ = {**clean_environ(), "HOME": str(tmp_path)}
    words = [*browser(tmp_path, 1200), "--dump-dom", status.url + "/"]
    page = ""
    for _ in range(20):  # an attempt to start may be under way just then
        page = subprocess.run(
            words, env=environ, capture_output=True, text=True, timeout=60, check=True
        ).stdout
        if "no worker" in page and "ready, 1 slot without a worker" in page:
            break
    assert "no worker" in page
    assert "ready, 1 slot without a worker" in page
    assert "<title>the shop | forkserve</title>" in page
    assert page.count('class="lane"') == 2
    assert "boot failed: exit status 3" in page
