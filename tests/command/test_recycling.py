"""Workers that are replaced, added and retired while the server is busy: nothing is lost by it.

SOAK=1 in the environment runs the full counts.
"""

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command.harness import PLAIN, Server, wait_for_death
from tests.command.load import Load
from tests.command.test_master import context_switches, select_nothing

Start = Callable[..., Server]
SOAK = bool(os.environ.get("SOAK"))

LEAK = """
LEAKED = []

def do_hoard(environ, start_response):
    # ?MEBIBYTES&FIFO: take them, say so, and wait.
    size, _, fifo = environ["QUERY_STRING"].partition("&")
    LEAKED.append(bytearray(b"x" * (int(size) << 20)))
    print("hoarding", file=sys.stderr, flush=True)
    open(fifo).close()
    return answer(start_response, b"hoarded")


def do_leak(environ, start_response):
    LEAKED.append(bytearray(b"x" * (int(environ["QUERY_STRING"]) << 20)))
    return answer(start_response, b"leaked")
"""


def events(server: Server) -> list[tuple[str, str, int]]:
    """(what, slot, pid) of each worker that became ready or left, in order."""
    pattern = r"worker (\d+) gen \d+ \(pid (\d+)\) (is ready|has left|is replaced)"
    return [
        (found[3], found[1], int(found[2]))
        for line in server.lines
        if (found := re.search(pattern, line))
    ]


def assert_successors_come_first(server: Server, workers: int) -> None:
    """At no time are there fewer ready workers than there were, and one at a time is replaced."""
    ready = 0
    replacing = 0
    for what, _, _ in events(server):
        ready += {"is ready": 1, "has left": -1}.get(what, 0)
        if what == "is replaced":
            replacing += 1
            assert replacing == 1, "two at a time"
        elif what == "is ready":
            replacing = 0
            full = ready >= workers
        elif what == "has left":
            assert not full or ready >= workers, "a worker left before its successor was ready"


# ---- requests, lifetime, memory


def test_max_requests_replaces_workers_and_loses_nothing(start: Start) -> None:
    limit, requests = (500, 200_000) if SOAK else (50, 2000)
    server = start(
        "-w", "2", "--max-requests", str(limit), "--max-requests-jitter", str(limit // 5), "plain"
    )
    server.wait_for("is ready", count=2)
    with Load(server.port) as load:
        while load.outcomes[200] < requests:
            load.wait_for(500)
        server.wait_for("has left", count=8)
        outcomes = load.stop()
    assert set(outcomes) == {200}, outcomes
    replaced = server.wait_for(r"is replaced: it has served (\d+) requests \(`max_requests`\)")
    assert all(limit <= int(found[1]) <= limit * 2 for found in replaced)
    assert_successors_come_first(server, 2)


def test_max_lifetime(start: Start) -> None:
    server = start("-w", "2", "--max-lifetime", "1", "plain")
    with Load(server.port, clients=2) as load:
        server.wait_for("has left", count=4)
        outcomes = load.stop()
    assert set(outcomes) == {200}, outcomes
    server.wait_for("is replaced: it has served for its `max_lifetime`", count=4)
    assert_successors_come_first(server, 2)


@pytest.fixture
def leaky(app: Path) -> Path:
    (app / "shop.py").write_text(PLAIN + LEAK)
    return app


def test_max_rss(start: Start, leaky: Path) -> None:
    server = start("-w", "2", "--max-rss", "100M", "shop", cwd=leaky)
    with Load(server.port, "/leak?1", clients=2, body=b"leaked", pause=0.002) as load:
        server.wait_for("has left", count=20 if SOAK else 2)
        outcomes = load.stop()
    assert set(outcomes) == {200}, outcomes
    server.wait_for(r"is replaced: it holds \d+M of memory, and `max_rss` is 100M", count=2)
    assert_successors_come_first(server, 2)


def test_a_worker_that_is_still_in_the_call_is_replaced_too(
    start: Start, leaky: Path, gate: Path
) -> None:
    server = start("--max-rss", "100M", "shop", cwd=leaky)
    with server.connect() as client:
        client.send(f"GET /hoard?120&{gate} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        server.wait_for("is replaced: it holds")
        server.wait_for("is ready", count=2)
        assert server.get() == (200, b"hello")
        gate.write_text("")
        assert client.response().content == b"hoarded"  # type: ignore[attr-defined]
    server.wait_for("has left")


def test_a_worker_that_has_become_idle_is_replaced_too(start: Start, leaky: Path) -> None:
    server = start("--max-rss", "100M", "shop", cwd=leaky)
    assert server.get("/leak?120") == (200, b"leaked")
    server.wait_for("is replaced: it holds")
    server.wait_for("has left")


def test_workers_that_are_born_above_max_rss(start: Start) -> None:
    server = start("-w", "2", "--max-rss", "1M", "plain")
    server.wait_for("is replaced: it holds", count=4)
    assert server.log.count("has just become ready, and holds") == 1
    assert server.get() == (200, b"hello")
    began, before = time.monotonic(), len(events(server))
    select_nothing(2.0)
    births = [what for what, _, _ in events(server)[before:] if what == "is ready"]
    assert len(births) <= 6, time.monotonic() - began


# ---- with the load


def test_workers_come_and_go_with_the_load(start: Start) -> None:
    server = start("-w", "1:3", "--scale-down-after", "1", "plain")
    with Load(server.port, "/sleep?0.02", clients=6, body=b"slept", once=True) as load:
        server.wait_for("no worker was idle for a second: from 1 to 2 workers")
        server.wait_for("no worker was idle for a second: from 2 to 3 workers")
        server.wait_for("is ready", count=3)
        load.wait_for(100)
        assert len(server.workers()) == 3
        outcomes = load.stop()
    server.wait_for("from 3 to 2 workers")
    server.wait_for("from 2 to 1 worker$")
    server.wait_for("has left", count=2)
    assert set(outcomes) == {200}, outcomes
    assert server.get() == (200, b"hello")


def test_shrinking_under_load_loses_nothing(start: Start) -> None:
    server = start("-w", "1:2", "--scale-down-after", "1", "plain")
    with Load(server.port, "/sleep?0.02", clients=4, body=b"slept", once=True) as load:
        server.wait_for("from 1 to 2 workers")
        server.wait_for("is ready", count=2)
        load.stop()
    with Load(server.port, clients=4, pause=0.02) as light:
        server.wait_for("from 2 to 1 worker$")
        server.wait_for("has left")
        light.wait_for(20)
        light.stop()
    assert set(light.outcomes | load.outcomes) == {200}, (light.outcomes, load.outcomes)


def test_it_does_not_grow_past_the_memory(start: Start) -> None:
    server = start("-w", "1:3", "--max-rss", "60%", "plain")
    with Load(server.port, "/sleep?0.02", clients=4, body=b"slept"):
        line = server.wait_for("no worker was idle for a second, but there is memory")[0].string
    assert "for no more than 1 worker of `max_rss`" in line
    assert len(server.workers()) == 1


@pytest.mark.parametrize("settings", [["-w", "2:4"], ["-w", "2", "--max-rss", "1G"]])
def test_a_server_that_is_idle_again_is_not_looked_at(start: Start, settings: list[str]) -> None:
    server = start(*settings, "plain")
    server.wait_for("is ready", count=2)
    assert [server.get() for _ in range(20)] == [(200, b"hello")] * 20
    select_nothing(2.5)  # until the last look
    pids = (server.pid, *server.workers())
    before = [context_switches(pid) for pid in pids]
    select_nothing(1.5)
    after = [context_switches(pid) for pid in pids]
    assert max(b - a for a, b in zip(before, after, strict=True)) <= 1


@pytest.mark.parametrize("count", ["3", "2:4"])
def test_ttin_and_ttou_under_load_lose_nothing(start: Start, count: str) -> None:
    server = start("-w", count, "plain")
    with Load(server.port) as load:
        for number in range(100 if SOAK else 12):
            server.signal(("TTIN", "TTIN", "TTOU", "TTOU")[number % 4])
            load.wait_for(20)
        outcomes = load.stop()
    assert set(outcomes) == {200}, outcomes


# ---- signals


VERSION = """
def do_version(environ, start_response):
    return answer(start_response, b"{}")
"""


def test_25_hups_end_in_the_newest_generation(start: Start, app: Path) -> None:
    (app / "shop.py").write_text(PLAIN + VERSION.format("old"))
    server = start("-w", "2", "shop", cwd=app)
    server.wait_for("is ready", count=2)
    with Load(server.port) as load:
        for milliseconds in range(25):
            server.signal("HUP")
            select_nothing(milliseconds / 1000)
        # In one step: a reload that is under way must not find half a file.
        (app / "new").write_text(PLAIN + VERSION.format("newest"))
        (app / "new").rename(app / "shop.py")
        server.signal("HUP")
        while {server.get("/version")[1] for _ in range(20)} != {b"newest"}:
            load.wait_for(1)
        outcomes = load.stop()
    assert set(outcomes) == {200}, outcomes
    assert server.stop() == 0


@pytest.mark.parametrize("count", ["2", "1:3"])
def test_mixed_signals_and_then_term(start: Start, count: str) -> None:
    names = ("HUP", "TTIN", "TTOU", "USR1", "WINCH", "CHLD", "USR2")
    server = start("-w", count, "--max-lifetime", "1", "plain")
    with Load(server.port, clients=2):
        for number in range(1000 if SOAK else 200):
            server.signal(names[number * number % len(names)])
            select_nothing((number % 5) / 1000)
        server.signal("HUP")
        pids = server.workers()
        assert server.stop() == 0
    assert all(wait_for_death(pid, 1.0) for pid in pids)
    assert "Traceback" not in server.log
