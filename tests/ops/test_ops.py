"""What operators see: log lines that cannot be forged or fail, and the scoreboard."""

import os
import re
import time
from pathlib import Path

import pytest

from forkserve.ops.access import Access, AccessLog, compile_format
from forkserve.ops.logs import ErrorStream, LogFile, error_log, printable
from forkserve.ops.scoreboard import Scoreboard

ACCESS = Access(
    remote="192.0.2.1",
    status=200,
    octets=1234,
    seconds=1.5,
    line="GET /a?b=c HTTP/1.1",
    environ={
        "HTTP_REFERER": "http://r/",
        "HTTP_USER_AGENT": "curl/8",
        "HTTP_HOST": "h",
        "CONTENT_TYPE": "t/x",
        "HTTP_AUTHORIZATION": "Basic dXNlcjpzM2NyZXQ=",
        "wsgi.url_scheme": "http",
    },
    headers=[("X-A", "1"), ("x-a", "2"), ("Content-Type", "t/y")],
)
EMPTY = Access(remote="", status=400, octets=0, seconds=0.0)


@pytest.mark.parametrize(
    ("text", "line", "empty"),
    [
        ("%(h)s %(l)s %(u)s", "192.0.2.1 - user", "- - -"),
        ("%(r)s", "GET /a?b=c HTTP/1.1", "-"),
        ("%(m)s %(U)s %(q)s %(H)s", "GET /a b=c HTTP/1.1", "- -  -"),
        ("%(s)s %(B)s %(b)s", "200 1234 1234", "400 0 -"),
        ("%(f)s %(a)s", "http://r/ curl/8", "- -"),
        ("%(T)s %(M)s %(D)s %(L)s", "1 1500 1500000 1.500000", "0 0 0 0.000000"),
        ("%(p)s", f"<{os.getpid()}>", f"<{os.getpid()}>"),
        ("%({Host}i)s %({content-type}i)s", "h t/x", "- -"),
        ("%({x-A}o)s %({content-type}o)s", "1, 2 t/y", "- -"),
        ("%({wsgi.url_scheme}e)s", "http", "-"),
        ("100%% [%(s)s]", "100% [200]", "100% [400]"),
    ],
)
def test_atoms(text: str, line: str, empty: str) -> None:
    form = compile_format(text)
    assert form(ACCESS) == line
    assert form(EMPTY) == empty


def test_the_formats_with_a_name() -> None:
    when = r"\[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]"
    common = compile_format("common")(ACCESS)
    assert re.fullmatch(rf'192\.0\.2\.1 - user {when} "GET /a\?b=c HTTP/1\.1" 200 1234', common)
    combined = compile_format("combined")(ACCESS)
    assert combined[: -len(' "http://r/" "curl/8"')] == common
    assert combined.endswith(' "http://r/" "curl/8"')


@pytest.mark.parametrize("text", ["%(Q)s", "%h", "%(h)", "%({x}z)s", "100%", "%(h)d"])
def test_formats_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="atom"):
        compile_format(text)


@pytest.mark.parametrize(
    "evil", ["\r\n", "\n127.0.0.1 - -", "\x1b[31m", "\x9b31m", "\x00", '" 200 1 "', "\\"]
)
def test_no_client_can_forge_a_line_or_move_a_terminal(evil: str) -> None:
    access = Access(
        "h", 200, 1, 0.1, f"GET /{evil} HTTP/1.1", {"HTTP_REFERER": evil, "HTTP_USER_AGENT": evil}
    )
    line = compile_format("combined")(access)
    assert line.isascii()
    assert line.isprintable()
    assert line.count('"') == 6
    assert line.replace("\\\\", "").count("\\x") + line.count("\\\\") >= 3 or "\\" in line


def test_escapes() -> None:
    assert printable("plain text") == "plain text"
    assert printable('a"b\\c\n\xe9\x80') == "a\\x22b\\x5cc\\x0a\\xe9\\x80"
    assert printable("\u20ac") == "\\u20ac"


@pytest.mark.parametrize(
    "value",
    ["Basic !!!", "Basic", "Bearer dXNlcjpw", "Basic dXNlcg", "basic OnB3", "Basic \xff", ""],
)
def test_malformed_credentials_are_no_user(value: str) -> None:
    access = Access("h", 200, 1, 0.1, "", {"HTTP_AUTHORIZATION": value})
    assert compile_format("%(u)s")(access) == "-"


def test_a_line_is_one_write(tmp_path: Path) -> None:
    file = LogFile(str(tmp_path / "log"), 1)
    file.open()
    AccessLog(file, "%(s)s").write(ACCESS)
    assert (tmp_path / "log").read_text() == "200\n"
    file.close()


def test_reopening_keeps_the_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "log"
    file = LogFile(str(path), 2)
    file.open()
    number = file.fileno()
    file.write(b"one\n")
    path.rename(tmp_path / "old")
    file.open()
    file.write(b"two\n")
    assert file.fileno() == number
    assert not os.get_inheritable(number)
    assert (path.read_text(), (tmp_path / "old").read_text()) == ("two\n", "one\n")
    file.close()


def test_a_full_disk_loses_lines_and_nothing_else() -> None:
    file = LogFile("/dev/full", 2)
    file.open()
    log = error_log(file, "info", "test")
    for _ in range(3):
        log.error("lost")
    reading, writing = os.pipe()
    os.dup2(writing, file.fileno())
    log.error("written")
    text = os.read(reading, 1000).decode()
    assert text.startswith("3 lines were lost here")
    assert text.endswith("written\n")
    log.error("again")
    assert "lost" not in os.read(reading, 1000).decode()
    for fd in (reading, writing):
        os.close(fd)
    file.close()


def test_lines_of_the_error_log(tmp_path: Path) -> None:
    file = LogFile(str(tmp_path / "log"), 2)
    file.open()
    log = error_log(file, "warning", "worker 2 gen 1")
    log.info("not this")
    log.warning("this: %s \ud800", "x")
    log.error("%d", "not a number")
    lines = (tmp_path / "log").read_text().splitlines()
    stamp = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} [+-]\d{4}"
    assert re.fullmatch(
        rf"{stamp} WARNING \[worker 2 gen 1 pid {os.getpid()}\] this: x \\ud800", lines[0]
    )
    assert "could not be formatted" in lines[1]
    file.close()


def test_an_application_that_configures_logging_does_not_silence_us(tmp_path: Path) -> None:
    import logging.config

    file = LogFile(str(tmp_path / "log"), 2)
    file.open()
    log = error_log(file, "info", "test")
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": True})
    log.error("still here")
    assert "still here" in (tmp_path / "log").read_text()
    file.close()


def test_wsgi_errors(tmp_path: Path) -> None:
    file = LogFile(str(tmp_path / "log"), 2)
    file.open()
    stream = ErrorStream(file)
    assert stream.write("a\u20ac\udcff\n") == 4
    stream.writelines(["b\n", "c\n"])
    stream.flush()
    print("d", file=stream)
    assert (tmp_path / "log").read_bytes() == b"a\xe2\x82\xac\\udcff\nb\nc\nd\n"
    file.close()


# ---- scoreboard


def test_a_row_tells_what_runs() -> None:
    board = Scoreboard(3)
    row, other = board.row(1), board.row(2)
    assert (row.deadline, row.running) == (0.0, None)
    row.begin(20.0, 10.0, "GET /\xe9 HTTP/1.1")
    assert (row.deadline, row.running) == (20.0, (10.0, "GET /\xe9 HTTP/1.1"))
    row.extend(25.0)
    assert (row.deadline, row.running) == (25.0, (10.0, "GET /\xe9 HTTP/1.1"))
    assert other.running is None
    row.end()
    assert (row.deadline, row.running) == (0.0, None)
    row.begin(float("inf"), 10.0, "x" * 10000)
    assert row.running == (10.0, "x" * 240)
    assert other.running is None


def test_a_row_is_shared_with_a_child() -> None:
    board = Scoreboard(2)
    pid = os.fork()
    if pid == 0:
        board.row(1).begin(2.0, time.monotonic(), "GET /child HTTP/1.1")
        os._exit(0)
    os.waitpid(pid, 0)
    running = board.row(1).running
    assert running is not None
    assert running[1] == "GET /child HTTP/1.1"


def test_there_are_so_many_rows_and_no_more() -> None:
    with pytest.raises(IndexError):
        Scoreboard(2).row(2)
