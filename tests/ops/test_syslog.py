"""A log that goes to a syslog: RFC 5424, and nothing that waits."""

import json
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from forkserve.net.syslog import SyslogAddress, parse_syslog
from forkserve.ops.access import Access, AccessLog
from forkserve.ops.logs import LineStream, error_log, error_stream
from forkserve.ops.syslog import Syslog

pytestmark = pytest.mark.usefixtures("nothing_leaks")

MESSAGE = re.compile(
    rb"<(\d+)>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z (\S+) forkserve (\d+) (access|error) - (.*)"
)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("syslog+unix:///dev/log", SyslogAddress("/dev/log", "", 514, 1)),
        ("syslog+udp://logs.example", SyslogAddress("", "logs.example", 514, 1)),
        ("syslog+udp://[::1]:5514?facility=local7", SyslogAddress("", "::1", 5514, 23)),
        ("syslog+udp://127.0.0.1:1/", SyslogAddress("", "127.0.0.1", 1, 1)),
        ("/var/log/x", None), ("-", None), ("syslog", None),
    ],
)  # fmt: skip
def test_addresses(text: str, address: SyslogAddress | None) -> None:
    assert parse_syslog(text) == address


@pytest.mark.parametrize(
    "text",
    ["syslog+unix://dev/log", "syslog+tcp://h:1", "syslog+udp://", "syslog+udp://h:0",
     "syslog+udp://h:70000", "syslog+udp://h?facility=mine", "syslog+udp://a:b:c", "syslog+unix:///a\0"],
)  # fmt: skip
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"syslog|port|facility"):
        parse_syslog(text)


def opened(text: str, name: str = "error") -> Syslog:
    address = parse_syslog(text)
    assert address is not None
    log = Syslog(text, address, name)
    log.open()
    return log


@pytest.fixture(params=["unix", "udp"])
def receiver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """(its address, a syslog)"""
    family = socket.AF_UNIX if request.param == "unix" else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        if request.param == "unix":
            sock.bind(str(tmp_path / "log"))
            address = f"syslog+unix://{tmp_path}/log?facility=daemon"
        else:
            sock.bind(("127.0.0.1", 0))
            address = f"syslog+udp://127.0.0.1:{sock.getsockname()[1]}?facility=daemon"
        sock.setblocking(False)
        yield address, sock


def received(sock: socket.socket) -> list[tuple[int, bytes]]:
    """(priority, text) of each message that is there."""
    messages = []
    while True:
        try:
            octets = sock.recv(65536)
        except BlockingIOError:
            return messages
        match = MESSAGE.fullmatch(octets)
        assert match is not None, octets
        assert int(match[3]) == os.getpid()
        messages.append((int(match[1]), match[5]))


def test_lines_are_messages(receiver: tuple[str, socket.socket]) -> None:
    address, sock = receiver
    file = opened(address)
    log = error_log(file, "info", "worker 2 gen 1")
    log.error("in %r the application raised\nTraceback:\n  line", "GET /")
    log.warning("a warning\x1b[31m\u20ac", extra={"request_id": "abc"})
    log.info("more")
    assert received(sock) == [
        (3 * 8 + 3, b"[worker 2 gen 1] in 'GET /' the application raised"),
        (3 * 8 + 3, b"    Traceback:"),
        (3 * 8 + 3, b"      line"),
        (3 * 8 + 4, b"[worker 2 gen 1 request abc] a warning\\x1b[31m\xe2\x82\xac"),
        (3 * 8 + 6, b"[worker 2 gen 1] more"),
    ]
    file.close()


def test_access_lines_are_as_long_as_a_message_may_be(receiver: tuple[str, socket.socket]) -> None:
    address, sock = receiver
    file = opened(address, "access")
    log = AccessLog(file, "%(r)s")
    log.write(Access("h", 200, 1, 0.1, "GET / HTTP/1.1"))
    log.write(Access("h", 200, 1, 0.1, "a" * 60000))
    (priority, first), (_, second) = received(sock)
    assert (priority, first) == (3 * 8 + 6, b"GET / HTTP/1.1")
    assert len(second) + 1 == file.longest
    file.close()


def test_an_object_that_is_too_long_is_cut_within_its_message(
    receiver: tuple[str, socket.socket],
) -> None:
    address, sock = receiver
    file = opened(address)
    log = error_log(file, "info", "worker 2 gen 1", "json")
    log.error("the application raised %s", "\u20ac\n" * 30_000, extra={"request_id": "r" * 200})
    log.info("more")
    (_, first), (_, second) = received(sock)
    assert file.longest is not None and file.longest // 2 < len(first) <= file.longest
    assert json.loads(first)["message"].startswith("the application raised \u20ac\n\u20ac")
    assert json.loads(second)["message"] == "more"
    file.close()


def test_a_line_of_the_application_is_one_message(receiver: tuple[str, socket.socket]) -> None:
    """``print`` writes the line and its end one after the other."""
    address, sock = receiver
    file = opened(address)
    log = error_log(file, "error", "worker 0 gen 1")
    stream = error_stream(file, log, "auto")
    assert isinstance(stream, LineStream)
    print("one", "two", file=stream)
    stream.write("three\nfo")
    stream.write("ur")
    assert [text[17:] for _, text in received(sock)] == [b"one two", b"three"]
    stream.flush()
    assert received(sock) == [(3 * 8 + 5, b"[worker 0 gen 1] four")]
    stream.flush()
    assert received(sock) == []
    file.close()


def test_a_syslog_that_comes_later_and_goes_again(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    file = opened(f"syslog+unix://{path}")
    told: list[str] = []
    log = AccessLog(file, "%(s)s", told.append, lambda: 0.0)
    for _ in range(3):
        log.write(Access("h", 200, 1, 0.1))
    assert told == [
        f"the access log syslog+unix://{path} cannot be written: No such file or directory. Lines "
        "are lost, and counted, until it can be"
    ]
    for status in (201, 202):  # it was restarted in between
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.bind(path)
            sock.setblocking(False)
            log.write(Access("h", status, 1, 0.1))
            texts = [text for _, text in received(sock)]
        os.unlink(path)
        lost = b"3 lines were" if status == 201 else b"1 line was"
        assert texts == [lost + b" lost here: the log could not be written", b"%d" % status]
        log.write(Access("h", 500, 1, 0.1))
    file.close()


def test_a_syslog_that_does_not_read_blocks_nobody(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "log"))
        sock.setblocking(False)
        file = opened(f"syslog+unix://{tmp_path}/log")
        for number in range(5000):
            file.write(b"%d\n" % number)
        texts = [text for _, text in received(sock)]
        assert texts == [b"%d" % number for number in range(len(texts))]
        file.write(b"next\n")
        lost = 5000 - len(texts)
        assert [text for _, text in received(sock)] == [
            b"%d lines were lost here: the log could not be written" % lost, b"next",
        ]  # fmt: skip
        file.close()


def test_a_port_where_nobody_listens_is_told_when_somebody_does() -> None:
    """The kernel of this machine says at once that nobody does; others, or none, later."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    file = opened(f"syslog+udp://127.0.0.1:{port}")
    for _ in range(10):
        file.write(b"lost\n")
    assert file.failure is not None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", port))
        sock.setblocking(False)
        file.write(b"one\n")
        file.write(b"two\n")
        file.write(b"three\n")
        texts = [text for _, text in received(sock)]
    assert [text for text in texts if b"lost" not in text] == [b"one", b"two", b"three"]
    reports = [int(text.split()[0]) for text in texts if b"lost" in text]
    assert sum(reports) == 10  # none is lost twice, nor is a report
    assert file.failure is None
    file.close()


def test_what_the_interpreter_writes_in_a_crash_goes_to_standard_error(tmp_path: Path) -> None:
    file = opened(f"syslog+unix://{tmp_path}/log")
    assert file.fileno() == 2
    file.open()  # after USR1
    file.close()
    os.fstat(2)


def test_a_name_that_nobody_knows() -> None:
    with pytest.raises(OSError, match=r"not known|resolution"):
        opened("syslog+udp://no-such-host.invalid")
