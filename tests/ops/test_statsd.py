"""StatsD: Gunicorn's names, in datagrams."""

import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from forkserve.ops.scoreboard import Scoreboard
from forkserve.ops.statsd import OF_APPLICATION, LineCounter, StatsD, ToldTally, open_statsd


@pytest.fixture
def udp() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(10)
        yield sock


def statsd_at(udp: socket.socket, prefix: str | None = None, tags: str | None = None) -> StatsD:
    return open_statsd(f"localhost:{udp.getsockname()[1]}", prefix, tags)


@pytest.mark.parametrize(
    ("prefix", "tags", "name", "tail"),
    [
        (None, None, "gunicorn", ""), ("shop", None, "shop.gunicorn", ""),
        ("shop.web.", None, "shop.web.gunicorn", ""), (None, "env:a,b:c", "gunicorn", "|#env:a,b:c"),
    ],
)  # fmt: skip
def test_a_request_is_three_lines(
    udp: socket.socket, prefix: str | None, tags: str | None, name: str, tail: str
) -> None:
    statsd = statsd_at(udp, prefix, tags)
    statsd.request(404, 0.0125)
    assert udp.recv(9999).decode().split("\n") == [
        f"{name}.request.duration:12.500|ms{tail}",
        f"{name}.requests:1|c|@1.0{tail}",
        f"{name}.request.status.404:1|c|@1.0{tail}",
    ]
    statsd.close()


def test_what_is_told_is_counted_too(udp: socket.socket) -> None:
    statsd, board = statsd_at(udp), Scoreboard(1)
    tally = ToldTally(board.row(0).tally(), statsd)
    tally.over(200, 0.5, 0.4, 0.0, 10, 20)
    tally.write()
    assert b"gunicorn.request.duration:500.000|ms" in udp.recv(999)
    assert sum(board.row(0).tally().read()[1:7]) == 1
    statsd.close()


def test_workers_are_told_when_they_change(udp: socket.socket) -> None:
    statsd = statsd_at(udp)
    for count in (2, 2, 3):
        statsd.workers(count)
    assert [udp.recv(99), udp.recv(99)] == [b"gunicorn.workers:2|g", b"gunicorn.workers:3|g"]
    statsd.close()


def test_lines_of_the_log_are_counted_by_level(udp: socket.socket) -> None:
    statsd = statsd_at(udp)
    log = logging.Logger("a", logging.INFO)
    log.addFilter(LineCounter(statsd))
    log.info("a")
    log.warning("b")
    log.error("c")
    log.error("d", extra=OF_APPLICATION)
    log.critical("e")
    assert [udp.recv(99).decode() for _ in range(4)] == [
        f"gunicorn.log.{name}:1|c|@1.0" for name in ("warning", "error", "exception", "critical")
    ]
    statsd.close()


def test_names_that_the_application_gives_to_levels_are_not_sent(
    udp: socket.socket, own_level_names: None
) -> None:
    statsd = statsd_at(udp)
    log = logging.Logger("a", logging.INFO)
    log.addFilter(LineCounter(statsd))
    log.warning("b")
    log.error("c")
    assert [udp.recv(99) for _ in range(2)] == [
        b"gunicorn.log.warning:1|c|@1.0", b"gunicorn.log.error:1|c|@1.0",
    ]  # fmt: skip
    statsd.close()


def test_a_unix_socket_may_come_later(tmp_path: Path) -> None:
    statsd = open_statsd(f"unix://{tmp_path}/statsd", None, None)
    statsd.request(200, 1.0)  # nobody is there: it is lost
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"{tmp_path}/statsd")
        statsd.request(200, 1.0)
        assert b"gunicorn.request.status.200:1|c" in sock.recv(999)
        sock.setblocking(False)
        for _ in range(5000):  # nobody reads: they are lost, and it does not wait
            statsd.request(200, 1.0)
    statsd.close()


def test_a_name_that_nobody_knows() -> None:
    statsd = open_statsd("nowhere.invalid:8125", None, None)
    assert "StatsD is told nothing, because nowhere.invalid:8125" in statsd.failure
    statsd.request(200, 1.0)
    statsd.close()
