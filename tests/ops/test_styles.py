"""How the lines of the error log look."""

import contextlib
import json
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from forkserve.ops.logs import LineStream, LogFile, error_log, error_stream
from tests.ops.test_ops import log_to

pytestmark = pytest.mark.usefixtures("nothing_leaks")


@contextlib.contextmanager
def terminal() -> Iterator[tuple[LogFile, int]]:
    """(a log on a terminal, what shows there)"""
    ours, theirs = os.openpty()
    with log_to(theirs) as file:
        yield file, ours
    os.close(ours)
    os.close(theirs)


def test_colours_and_short_times_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    with terminal() as (file, screen):
        log = error_log(file, "info", "master", "auto")
        log.error("evil \x1b[2J")
        log.info("good")
        text = ""
        while "good\r\n" not in text:
            text += os.read(screen, 1000).decode()
    where = rf"\x1b\[2m\[master pid {os.getpid()}\]\x1b\[0m"
    assert re.fullmatch(
        rf"\d\d:\d\d:\d\d \x1b\[31mERROR\x1b\[0m {where} evil \\x1b\[2J\r\n"
        rf"\d\d:\d\d:\d\d INFO {where} good\r\n",
        text,
    )


@pytest.mark.parametrize(("no_color", "log_format"), [("1", "auto"), ("", "plain")])
def test_no_colours_if_nobody_wants_them(
    monkeypatch: pytest.MonkeyPatch, no_color: str, log_format: str
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    with terminal() as (file, screen):
        error_log(file, "info", "master", log_format).error("text")
        text = os.read(screen, 1000).decode()
    assert "\x1b" not in text
    assert text.endswith(f" ERROR [master pid {os.getpid()}] text\r\n")
    assert bool(re.match(r"\d\d:\d\d:\d\d ", text)) == (log_format == "auto")


@pytest.fixture
def file(tmp_path: Path) -> Iterator[LogFile]:
    log = LogFile(str(tmp_path / "log"), 2)
    log.open()
    yield log
    log.close()


def test_plain_lines_elsewhere(file: LogFile) -> None:
    error_log(file, "info", "master", "auto").warning("text", extra={"request_id": "f00-1"})
    text = Path(file.path).read_text()
    assert text.endswith(f" +0000 WARNING [master pid {os.getpid()} request f00-1] text\n") or (
        re.search(r" [+-]\d{4} WARNING \[master pid \d+ request f00-1\] text\n$", text)
    )


def test_structured_lines(file: LogFile) -> None:
    log = error_log(file, "info", "worker 2 gen 1", "json")
    log.error("in %r\nTraceback \x7f\x1b\u20ac \ud800", "GET /", extra={"request_id": "f00-1"})
    log.info("%d", "not a number")
    text = Path(file.path).read_text()
    assert text.isascii() and "\x7f" not in text
    first, second = map(json.loads, text.splitlines())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first.pop("time"))
    assert first == {
        "level": "error", "process": "worker 2 gen 1", "pid": os.getpid(), "request_id": "f00-1",
        "message": "in 'GET /'\nTraceback \x7f\x1b\u20ac \\ud800",
    }  # fmt: skip
    assert second["request_id"] is None
    assert second["message"].startswith("a line could not be formatted: '%d'")


@pytest.mark.parametrize("log_format", ["plain", "json"])
def test_names_that_the_application_gives_to_levels_are_not_shown(
    file: LogFile, log_format: str, own_level_names: None
) -> None:
    log = error_log(file, "info", "worker 2 gen 1", log_format)
    lent = logging.Logger("gunicorn.error")
    lent.handlers[:] = log.handlers
    for logger in (log, lent):
        logger.warning("a")
        logger.error("b")
        logger.log(35, "c")
    text = Path(file.path).read_text()
    assert text.isascii() and "\x1b" not in text
    lines = text.splitlines()
    assert len(lines) == 6
    if log_format == "plain":
        assert [line.split()[3] for line in lines[:2]] == ["WARNING", "ERROR"]
    else:
        levels = [json.loads(line)["level"] for line in lines]
        assert levels == 2 * ["warning", "error", '\x1b[1m"loud\n\u26a0']


def test_what_the_application_writes_is_structured_too(file: LogFile) -> None:
    log = error_log(file, "critical", "worker 2 gen 1", "json")
    stream = error_stream(file, log, "json")
    assert isinstance(stream, LineStream)
    print("a", "\x1b[31m b", file=stream)
    stream.write("x" * 70000)  # which never ends
    stream.flush()
    lines = [json.loads(line) for line in Path(file.path).read_text().splitlines()]
    assert [(it["level"], it["message"]) for it in lines] == [
        ("notice", "a \x1b[31m b"), ("notice", "x" * 70000),
    ]  # fmt: skip
