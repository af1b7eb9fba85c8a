"""The access log as JSON: one safe object a line, whatever a client sends."""

import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkserve.ops.access import Access, AccessLog, compile_format
from forkserve.ops.logs import LogFile
from tests.ops.test_ops import log_to

KEYS = [
    "time", "request_id", "client", "method", "target", "protocol", "status", "bytes", "seconds",
    "queue_seconds", "app_seconds", "write_seconds", "worker", "generation", "pid", "aborted",
]  # fmt: skip
ACCESS = Access(
    "192.0.2.1", 200, 1234, 1.5, "GET /a?b=c HTTP/1.1",
    slot=2, generation=3, request_id="f00-1", queued=0.25, called=1.0, writing=0.25,
)  # fmt: skip


def test_an_object() -> None:
    line = json.loads(compile_format("json")(ACCESS))
    assert list(line) == KEYS
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line == {
        "request_id": "f00-1", "client": "192.0.2.1", "method": "GET", "target": "/a?b=c",
        "protocol": "HTTP/1.1", "status": 200, "bytes": 1234, "seconds": 1.5,
        "queue_seconds": 0.25, "app_seconds": 1.0, "write_seconds": 0.25, "worker": 2,
        "generation": 3, "pid": os.getpid(), "aborted": None,
    }  # fmt: skip


def test_what_is_not_known_is_null() -> None:
    line = json.loads(compile_format("json")(Access("", 0, 0, 0.0)))
    assert list(line) == KEYS
    known = {key: value for key, value in line.items() if value is not None and key != "time"}
    assert known == {"status": 0, "bytes": 0, "seconds": 0.0, "pid": os.getpid()}


@given(
    st.binary(max_size=300),
    st.text(st.characters(), max_size=50),
    st.text(st.characters(), max_size=50),
)
def test_any_octets_of_a_client_are_one_object(octets: bytes, remote: str, why: str) -> None:
    access = Access(remote, 400, 1, 0.1, octets.decode("latin-1"), aborted=why)
    text = compile_format("json")(access)
    assert text.isascii()
    assert text.isprintable()
    line = json.loads(text)
    assert list(line) == KEYS
    sent = octets.decode("latin-1")
    if sent.count(" ") == 2:
        assert [line[it] or "" for it in ("method", "target", "protocol")] == sent.split(" ")
    json.dumps(line).encode()  # no half of a surrogate pair


def test_the_worker_is_that_of_the_log(tmp_path: Path) -> None:
    file = LogFile(str(tmp_path / "log"), 1)
    file.open()
    log = AccessLog(file, "json", slot=4, generation=5)
    log.write(Access("h", 200, 1, 0.1))
    log.write(Access("h", 0, 0, 0.1, slot=1, generation=2, pid=7))
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [(it["worker"], it["generation"]) for it in lines] == [(4, 5), (1, 2)]
    assert lines[1]["pid"] == 7
    file.close()


@pytest.mark.parametrize("longest", [700, 1900, 4096])
@pytest.mark.parametrize("text", ["a" * 8000, "\xff" * 8000, "GET /" + '"' * 9000 + " HTTP/1.1"])
def test_a_line_that_is_too_long_for_a_pipe_is_still_an_object(longest: int, text: str) -> None:
    log = AccessLog(LogFile("-", 1), "json", slot=1, generation=1)
    access = Access("192.0.2.1", 414, 10, 0.1, text, request_id="x" * 200, aborted=text)
    line = log.line(access, longest)
    assert len(line) < longest
    assert json.loads(line)["status"] == 414


def test_what_tells_of_lost_lines_is_an_object(tmp_path: Path) -> None:
    file = LogFile("/dev/full", 1)
    file.open()
    log = AccessLog(file, "json", slot=1, generation=1)
    log.write(ACCESS)
    fd = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    os.dup2(fd, file.fileno())
    os.close(fd)
    log.write(ACCESS)
    report, line = map(json.loads, (tmp_path / "log").read_text().splitlines())
    assert (report["lost"], report["message"]) == (
        1, "1 line was lost here: the log could not be written",
    )  # fmt: skip
    assert line["status"] == 200
    file.close()


def test_a_pipe_whose_reader_is_gone_is_told_and_no_more() -> None:
    told: list[str] = []
    reading, writing = os.pipe()
    with log_to(writing) as file:
        log = AccessLog(file, "json", told.append, lambda: 0.0, slot=1, generation=1)
        os.close(reading)
        for _ in range(3):
            log.write(ACCESS)
    os.close(writing)
    (line,) = told
    assert line == (
        "the access log on standard output cannot be written: Broken pipe. Lines are lost, and "
        "counted, until it can be"
    )
