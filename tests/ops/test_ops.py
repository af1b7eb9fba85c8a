"""What operators see: log lines that cannot be forged or fail, and the scoreboard."""

import base64
import contextlib
import errno
import fcntl
import logging
import os
import re
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from forkserve.ops.access import Access, AccessLog, compile_format
from forkserve.ops.logs import ErrorStream, LogFile, error_log, printable
from forkserve.ops.scoreboard import Call, Scoreboard

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
        ("%({Host}i)s %({content-type}i)s", "h t/x", "- -"),
        ("%({x-A}o)s %({content-type}o)s", "1, 2 t/y", "- -"),
        ("%({wsgi.url_scheme}e)s", "http", "-"),
        ("100%% [%(s)s]", "100% [200]", "100% [400]"),
        (
            "[%(h)12s|%(h)-12s|%(m).2s]",
            "[   192.0.2.1|192.0.2.1   |GE]",
            "[           -|-           |-]",
        ),
        ("%({content_type}e)s %({CONTENT_TYPE}e)s", "t/x t/x", "- -"),
    ],
)
def test_atoms(text: str, line: str, empty: str) -> None:
    form = compile_format(text)
    assert form(ACCESS) == line
    assert form(EMPTY) == empty


def test_a_status_that_is_not_known_has_three_digits_too() -> None:
    assert compile_format("%(s)s")(Access("h", 0, 0, 0.1)) == "000"
    assert compile_format("%(s)s")(Access("h", 404, 0, 0.1)) == "404"


def test_the_pid_is_that_of_the_worker() -> None:
    assert compile_format("%(p)s")(Access("h", 200, 0, 0.1)) == f"<{os.getpid()}>"
    assert compile_format("%(p)s")(Access("h", 0, 0, 0.1, pid=7)) == "<7>"


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


def test_a_blank_in_a_user_begins_no_other_field() -> None:
    credentials = base64.b64encode(b'a b "c"\n:secret').decode()
    access = Access("h", 200, 1, 0.1, "", {"HTTP_AUTHORIZATION": f"Basic {credentials}"})
    assert compile_format("%(u)s")(access) == "a\\x20b\\x20\\x22c\\x22\\x0a"


class Unshowable:
    def __str__(self) -> str:
        raise RuntimeError("not\nfor you")

    __repr__ = __str__


def test_a_request_has_its_line_whatever_the_application_left_in_environ(tmp_path: Path) -> None:
    file = LogFile(str(tmp_path / "log"), 1)
    file.open()
    log = AccessLog(file, "%(s)s %({x}e)s")
    log.write(Access("h", 200, 1, 0.1, "", {"x": Unshowable()}))
    log.write(Access("h", 201, 1, 0.1, "", {"x": "shown"}))
    first, second = (tmp_path / "log").read_text().splitlines()
    assert first.startswith("this line could not be formatted: RuntimeError")
    assert second == "201 shown"
    file.close()


class Filter(logging.Filter):
    """As in Gunicorn's users' files: some look at the text, some at the atoms."""

    def filter(self, record: logging.LogRecord) -> bool:
        atoms = record.args
        assert isinstance(atoms, dict)
        if atoms["U"] == "/broken":
            raise KeyError("of the filter")
        probes = str(atoms["{user-agent}i"]).startswith("ELB-HealthChecker")
        return not probes and "/healthz" not in record.getMessage()


@pytest.mark.parametrize("name", ["gunicorn.access", "forkserve.access"])
@pytest.mark.parametrize("text", ["combined", "json", "%(U)s %({x-a}i)s %({content-type}o)s"])
def test_filters_of_its_logger_hold_for_the_access_log(
    tmp_path: Path, name: str, text: str
) -> None:
    told: list[str] = []
    file = LogFile(str(tmp_path / "log"), 1)
    file.open()
    log = AccessLog(file, text, told.append)
    logger, own = logging.getLogger(name), Filter()

    def ask(path: str, agent: str = "curl") -> None:
        environ = {"HTTP_USER_AGENT": agent, "HTTP_X_A": "b", "wsgi.input": Unshowable()}
        log.write(
            Access("h", 200, 1, 0.1, f"GET {path} HTTP/1.1", environ, [("Content-Type", "t")])
        )

    logger.addFilter(own)
    try:
        for path in ("/shop", "/healthz", "/broken", "/last"):
            ask(path)
        ask("/probed", "ELB-HealthChecker/2.0")
    finally:
        logger.removeFilter(own)
    ask("/healthz?after")
    lines = (tmp_path / "log").read_text().splitlines()
    paths = [
        match[0]
        for line in lines
        for match in re.finditer("/(shop|broken|last|[a-z]+z|probed)", line)
    ]
    assert paths == ["/shop", "/broken", "/last", "/healthz"]
    assert told == [
        f"a filter of the logger {name} raised KeyError: 'of the filter': the lines of the access "
        "log that it fails at are written"
    ]
    file.close()


def test_a_full_access_log_is_told_in_the_error_log(tmp_path: Path) -> None:
    """Not for each line, but once a minute."""
    now = 100.0
    told: list[str] = []
    file = LogFile("/dev/full", 1)
    file.open()
    log = AccessLog(file, "%(s)s", told.append, lambda: now)
    for _ in range(3):
        log.write(ACCESS)
    assert told == [
        "the access log /dev/full cannot be written: No space left on device. Lines are lost, and "
        "counted, until it can be; make room"
    ]
    now = 159.0
    log.write(ACCESS)
    assert len(told) == 1
    now = 160.0
    log.write(ACCESS)
    assert len(told) == 2
    assert (
        "No space left on device. 5 lines are lost so far, and counted, until it can be" in told[1]
    )
    log.end()
    assert told[2:] == ["5 lines were lost, and it stays so: the access log /dev/full took no more"]
    file.close()


def test_a_pipe_that_is_not_read_is_told_in_the_error_log() -> None:
    told: list[str] = []
    with streams("pipe") as (writing, _), log_to(writing) as file:
        log = AccessLog(file, "%(r)s", told.append, lambda: 0.0)
        for _ in range(100):
            log.write(Access("h", 200, 1, 0.1, "a" * 4000))
    (line,) = told
    assert "cannot be written: whoever reads it is too slow. Lines are lost" in line


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


def test_a_line_that_cannot_be_formatted_at_all(tmp_path: Path) -> None:
    file = LogFile(str(tmp_path / "log"), 2)
    file.open()
    error_log(file, "info", "test").error("it is %s", Unshowable())
    written = (tmp_path / "log").read_text()
    assert "] a line could not be formatted: 'it is %s': RuntimeError" in written
    file.close()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ValueError: x\n2026-11-20 07:25:06.123 +0000 INFO [master] forged",
         "ValueError: x\n    2026-11-20 07:25:06.123 +0000 INFO [master] forged"),
        ("a\r2026-11-20 INFO [master]", "a\\x0d2026-11-20 INFO [master]"),
        ("\x1b[2J\x9b31m\x00\x7f\x85\x08", "\\x1b[2J\\x9b31m\\x00\\x7f\\x85\\x08"),
        ("a\tb \xe9 \u20ac", "a\tb \xe9 \u20ac"),
    ],
)  # fmt: skip
def test_no_message_can_forge_a_line_or_move_a_terminal(
    tmp_path: Path, text: str, shown: str
) -> None:
    """The text of an exception, say: it often holds what a client has sent."""
    file = LogFile(str(tmp_path / "log"), 2)
    file.open()
    error_log(file, "info", "test").error("raised %s", text)
    written = (tmp_path / "log").read_bytes().decode()
    assert written.endswith(f" ERROR [test pid {os.getpid()}] raised {shown}\n")
    assert re.findall(r"^\S+ \S+ \S+ (?:INFO|ERROR) ", written, re.MULTILINE) == [
        written[: len("2026-11-20 07:25:06.123 +0000 ERROR ")]
    ]
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


# ---- a standard stream, and a reader who does not read

OTHER = 12345
"""A user and group that the tests do not run as."""


@contextlib.contextmanager
def log_to(stream: int) -> Iterator[LogFile]:
    """A LogFile on standard output, while that is ``stream``."""
    before = os.dup(1)
    file = LogFile("-", 1)
    try:
        os.dup2(stream, 1)
        file.open()
    finally:
        os.dup2(before, 1)
        os.close(before)
    yield file
    file.close()


@contextlib.contextmanager
def streams(kind: str) -> Iterator[tuple[int, int]]:
    """(our end, the reader's end), which hold as little in between as they can."""
    if kind == "pipe":
        reading, writing = os.pipe()
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    else:
        ours, theirs = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
        reading, writing = theirs.detach(), ours.detach()
    yield writing, reading
    os.close(writing)
    os.close(reading)


def read_all(fd: int) -> bytes:
    os.set_blocking(fd, False)
    octets = b""
    with contextlib.suppress(BlockingIOError):
        while piece := os.read(fd, 65536):
            octets += piece
    return octets


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_a_reader_who_does_not_read_blocks_nobody(kind: str) -> None:
    with streams(kind) as (writing, reading), log_to(writing) as file:
        for number in range(5000):
            file.write(b"line %d\n" % number)
        lines = read_all(reading).splitlines()
        assert lines == [b"line %d" % number for number in range(len(lines))]
        assert 0 < len(lines) < 5000
        file.write(b"next\n")
        file.write(b"and so on\n")
        assert read_all(reading).splitlines() == [
            b"%d lines were lost here: the log could not be written" % (5000 - len(lines)),
            b"next",
            b"and so on",
        ]


def test_a_torn_line_is_ended_before_the_next() -> None:
    with streams("pipe") as (writing, reading), log_to(writing) as file:
        file.write(b"x" * 100000 + b"\n")
        torn = read_all(reading)
        assert torn == b"x" * len(torn) != b""
        file.write(b"next\n")
        assert re.fullmatch(rb"\n1 line was lost here.*\nnext\n", read_all(reading))
        file.write(b"whole\n")
        assert read_all(reading) == b"whole\n"


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_the_other_holders_of_a_standard_stream_keep_it_as_it_was(kind: str) -> None:
    """O_NONBLOCK is the open file's, which a shell or the application's children may share."""
    with streams(kind) as (writing, _):
        with log_to(writing) as file:
            assert file.fileno() > 2
            assert not os.get_inheritable(file.fileno())
            file.write(b"line\n")
            assert os.get_blocking(writing)
        assert os.get_blocking(writing)
        os.fstat(writing)


def test_a_terminal() -> None:
    ours, theirs = os.openpty()
    with log_to(theirs) as file:
        file.write(b"line\n")
        assert os.read(ours, 100) == b"line\r\n"
        assert os.get_blocking(theirs)
        for _ in range(1000):  # whose screen is stopped
            file.write(b"x" * 100 + b"\n")
    os.close(ours)
    os.close(theirs)


def test_lines_of_the_access_log_are_as_long_as_a_pipe_keeps_in_one_piece() -> None:
    access = Access("h", 200, 1, 0.1, "GET /" + "a" * 8000 + " HTTP/1.1")
    with streams("pipe") as (writing, reading), log_to(writing) as file:
        assert file.longest == select.PIPE_BUF
        AccessLog(file, "%(r)s").write(access)
        line = read_all(reading)
        assert line == b"GET /" + b"a" * (select.PIPE_BUF - 6) + b"\n"


def test_lines_in_a_file_have_any_length(tmp_path: Path) -> None:
    file = LogFile(str(tmp_path / "log"), 1)
    file.open()
    assert file.longest is None
    AccessLog(file, "%(r)s").write(Access("h", 200, 1, 0.1, "a" * 8000))
    assert (tmp_path / "log").stat().st_size == 8001
    file.close()


# ---- files that root opens, for workers of another user

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


def opened(path: Path) -> None:
    file = LogFile(str(path), 2)
    file.open(OTHER, OTHER)
    file.write(b"line\n")
    file.close()


@as_root
def test_a_log_that_is_made_belongs_to_who_opens_it_again(tmp_path: Path) -> None:
    path = tmp_path / "log"
    opened(path)
    assert (path.stat().st_uid, path.stat().st_gid) == (OTHER, OTHER)


@as_root
def test_a_log_that_is_there_is_not_given_away(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("there\n")
    opened(path)
    assert path.stat().st_uid == 0
    assert path.read_text() == "there\nline\n"


@as_root
@pytest.mark.parametrize("exists", [True, False])
def test_a_link_that_root_did_not_make_is_not_followed(tmp_path: Path, exists: bool) -> None:
    """Its owner chose where it leads: to /etc/shadow, say (CVE-2016-1247)."""
    target, link = tmp_path / "target", tmp_path / "log"
    if exists:
        target.write_text("secret\n")
    link.symlink_to(target)
    os.lchown(link, OTHER, OTHER)
    with pytest.raises(OSError, match="log") as caught:
        opened(link)
    assert caught.value.errno == errno.ELOOP
    assert target.exists() == exists
    assert not exists or (target.stat().st_uid, target.read_text()) == (0, "secret\n")


@as_root
def test_a_link_that_root_made_is_followed_and_its_target_stays_roots(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "log"
    target.touch()
    link.symlink_to(target)
    opened(link)
    assert (target.stat().st_uid, target.read_text()) == (0, "line\n")


# ---- scoreboard


def test_a_cell_tells_what_runs() -> None:
    board = Scoreboard(3)
    row, other = board.row(1), board.row(2)
    row.take(2)
    other.take(1)
    first, second = row.cells()
    assert row.calls() == []
    first.begin(10.0, 10.0, "GET /\xe9 HTTP/1.1")
    assert row.calls() == [Call(start=10.0, request="GET /\xe9 HTTP/1.1", deadline=20.0)]
    first.extend(15.0)
    assert first.read() == Call(10.0, "GET /\xe9 HTTP/1.1", 25.0)
    assert (second.read(), first.deadline, second.deadline) == (None, 25.0, 0.0)
    first.end()
    assert row.calls() == []
    second.begin(float("inf"), 10.0, "x" * 10000)
    assert row.calls() == [Call(10.0, "x" * 216, float("inf"))]
    assert other.calls() == []
    assert board.row(1).calls() == row.calls()
    row.take(1)  # by another worker
    assert row.calls() == []


def test_siblings_serve_and_some_are_idle() -> None:
    board = Scoreboard(3)
    rows = [board.row(index) for index in range(3)]
    for row in rows:
        row.take(2)
    assert not rows[0].has_siblings()
    for row in rows:
        row.set_serving(True)
    assert rows[0].has_siblings() and rows[0].idle_siblings() == 0  # nobody has said so
    for row in rows:
        row.idle_mark()[0] = 1
    for cell in rows[1].cells():
        cell.begin(1.0, 1.0, "GET / HTTP/1.1")
    assert (rows[0].idle_siblings(), rows[1].idle_siblings()) == (2, 2)  # it is the loop that says
    rows[1].idle_mark()[0] = 0
    assert (rows[0].idle_siblings(), rows[1].idle_siblings()) == (1, 2)
    rows[2].set_serving(False)
    assert (rows[0].idle_siblings(), rows[0].has_siblings()) == (0, True)
    rows[1].idle_mark()[0] = 1
    rows[1].take(2)  # its worker is gone
    assert not rows[0].has_siblings()
    rows[1].set_serving(True)
    assert (rows[0].idle_siblings(), rows[0].has_siblings()) == (0, True)  # a new one has not said


def test_a_cell_is_shared_with_a_child() -> None:
    row = Scoreboard(2).row(1)
    row.take(1)
    pid = os.fork()
    if pid == 0:
        row.cells()[0].begin(1.0, 1.0, "GET /child HTTP/1.1")
        os._exit(0)
    os.waitpid(pid, 0)
    assert row.calls() == [Call(1.0, "GET /child HTTP/1.1", 2.0)]


def test_there_are_so_many_rows_and_no_more() -> None:
    with pytest.raises(IndexError):
        Scoreboard(2).row(2)


def test_a_named_pipe_that_is_full_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log")
    file = LogFile(str(tmp_path / "log"), 2)
    with pytest.raises(OSError, match="No such device"):  # nobody reads it yet
        file.open()
    reading = os.open(tmp_path / "log", os.O_RDONLY | os.O_NONBLOCK)
    file.open()
    for _ in range(2000):
        file.write(b"x" * 99 + b"\n")
    assert file.longest == 4096
    assert os.read(reading, 1 << 20).count(b"\n") < 2000
    os.close(reading)
    file.close()


def test_what_an_application_sets_for_all_loggers_is_not_for_ours(tmp_path: Path) -> None:
    def factory(*args: object, **kwargs: object) -> logging.LogRecord:
        raise RuntimeError("outside of a request")

    before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(factory)
    logging.disable(logging.CRITICAL)
    try:
        file = LogFile(str(tmp_path / "log"), 2)
        file.open()
        error_log(file, "info", "master").error("still %s", "here")
        file.close()
    finally:
        logging.disable(logging.NOTSET)
        logging.setLogRecordFactory(before)
    assert "still here" in (tmp_path / "log").read_text()
