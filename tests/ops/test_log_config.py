"""``log_config``: lines through the logging module, none of which can hold up a request."""

import json
import logging
import logging.config
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from forkserve.errors import ForkserveError
from forkserve.ops.access import Access
from forkserve.ops.log_config import AccessRelay, ErrorRelay, Relay, configure, read_log_config
from forkserve.ops.logs import LogFile, error_log
from forkserve.settings.kinds import LogTable
from tests.worker.peer import Lines

TOML = """
version = 1
[formatters.short]
format = "%(name)s %(levelname)s %(request_id)s %(message)s"
[handlers.file]
class = "logging.FileHandler"
filename = "{file}"
formatter = "short"
[loggers."forkserve.error"]
handlers = ["file"]
level = "WARNING"
[loggers."forkserve.access"]
handlers = ["file"]
"""


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": False})
    for name in ("forkserve.error", "forkserve.access", "gunicorn.error", "gunicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).filters.clear()


@pytest.mark.parametrize("suffix", ["toml", "json"])
def test_both_kinds_of_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"log.{suffix}"
    text = 'version = 1\n[root]\nlevel = "INFO"\n'
    path.write_text(text if suffix == "toml" else '{"version": 1, "root": {"level": "INFO"}}')
    assert read_log_config(str(path)) == {"version": 1, "root": {"level": "INFO"}}


def test_a_table_of_gunicorns_file_may_leave_out_what_is_known_there() -> None:
    table = LogTable("g.py:logconfig_dict", {"root": {"handlers": ("console",)}})
    config = read_log_config(table)
    assert (config["version"], config["disable_existing_loggers"]) == (1, False)
    assert [*config["handlers"]] == ["console", "error_console"]
    targets = configure(table, config)
    assert (targets.error, targets.access) == (None, None)
    table = LogTable("g.py:logconfig_dict", {"root": {"handlers": ["gone"]}})
    with pytest.raises(
        ForkserveError, match=r"file g.py:logconfig_dict .* gives root a handler 'gone'"
    ):
        read_log_config(table)


class NoProbes(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        assert isinstance(record.args, dict)
        return record.args["U"] != "/healthz"


@pytest.mark.parametrize("text", ['%(h)s "%(r)s" %(s)s %%', "json"])
def test_filters_and_formatters_have_the_atoms(tmp_path: Path, text: str) -> None:
    """Also those that the table has as objects, in place of names."""
    lines = tmp_path / "lines"
    table: dict[str, Any] = {
        "filters": {"probes": {"()": NoProbes}},
        "formatters": {"plain": {"format": "%(name)s %(message)s"}},
        "handlers": {
            "file": {"class": "logging.FileHandler", "filename": lines, "formatter": "plain"},
        },
        "loggers": {"gunicorn.access": {"handlers": ["file"], "filters": ["probes"], "level": "INFO"}},
    }  # fmt: skip
    named = LogTable("g.py:logconfig_dict", table)
    target = configure(named, read_log_config(named)).access
    assert target is not None
    relay = Relay(error_log(LogFile("-", 2), "info", "test"), lambda: 0.0)
    log = AccessRelay(relay, target, text, slot=0, generation=1)
    for path in ("/healthz", '/a%20b"'):
        log.write(Access("192.0.2.1", 200, 1, 0.1, f"GET {path} HTTP/1.1"))
    relay.close()
    (line,) = lines.read_text().splitlines()
    assert line.startswith("gunicorn.access ")
    if text == "json":
        assert json.loads(line.partition(" ")[2])["target"] == '/a%20b"'
    else:
        assert line == 'gunicorn.access 192.0.2.1 "GET /a%20b\\x22 HTTP/1.1" 200 %'


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("version = ", "is neither TOML nor JSON"),
        ('{"version": 1', "is neither TOML nor JSON"),
        ("[root]\n", "has no `version = 1`"),
        ("{}", "has no `version = 1`"),
        ("version = 1\nhandlers = 3\n", "has a section `handlers` that does not map"),
        ("version = 1\n[handlers]\na = 1\n", "has a section `handlers` that does not map"),
        (
            'version = 1\n[loggers.a]\nhandlers = ["b"]\n',
            "gives a a handler 'b', which it does not",
        ),
        ('version = 1\n[root]\nhandlers = ["b"]\n', "gives root a handler 'b'"),
        ('version = 1\nroot = "INFO"\n', "has a `root` that is no table"),
        ("version = 1\n[root]\nhandlers = 5\n", "gives root `handlers` that are no list of names"),
        ("version = 1\n[loggers.a]\nhandlers = [[1]]\n", "gives a `handlers` that are no list"),
        ('{"version": ' + "[" * 2000, "is neither TOML nor JSON"),
        ("[loggers]\nkeys=root\n", "is of the INI form of fileConfig: write it as TOML or JSON"),
        (None, "cannot be read: No such file"),
    ],
)
def test_files_that_are_broken(tmp_path: Path, text: str | None, part: str) -> None:
    path = tmp_path / "log.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ForkserveError) as caught:
        read_log_config(str(path))
    assert str(caught.value).startswith(f"the file {path} (`log_config`) {part}")


def test_a_pipe_does_not_hold_up_the_master(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(ForkserveError, match="not a regular file"):
        read_log_config(str(path))


def test_what_only_its_use_shows(tmp_path: Path) -> None:
    config = {"version": 1, "handlers": {"x": {"class": "no.such.Thing"}}}
    with pytest.raises(
        ForkserveError, match=r"the file f \(`log_config`\) cannot be used: .*'x'"
    ) as e:
        configure("f", config)
    assert "No module named 'no'" in str(e.value)


def log_lines() -> tuple[logging.Logger, Lines]:
    lines = Lines()
    log = logging.Logger("own")
    log.addHandler(lines)
    return log, lines


def test_lines_go_where_the_file_says(tmp_path: Path) -> None:
    path = tmp_path / "log.toml"
    path.write_text(TOML.format(file=tmp_path / "out"))
    targets = configure(str(path), read_log_config(str(path)))
    assert targets.error is not None and targets.access is not None
    own, told = log_lines()
    relay = Relay(own, lambda: 0.0)
    log = error_log(LogFile("-", 2), "debug", "worker 0 gen 1")
    (file,) = log.handlers
    log.removeHandler(file)
    log.addHandler(ErrorRelay(relay, targets.error, file))
    # The application configures logging itself, and knows nothing of ours.
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": True})
    log.info("not this")
    log.error("this", extra={"request_id": "f00-1"})
    access = AccessRelay(relay, targets.access, "%(s)s %(r)s", slot=0, generation=1)
    access.write(Access("h", 200, 1, 0.1, "GET / HTTP/1.1", request_id="f00-2"))
    relay.close()
    assert (tmp_path / "out").read_text().splitlines() == [
        "forkserve.error ERROR f00-1 this",
        "forkserve.access INFO f00-2 200 GET / HTTP/1.1",
    ]
    assert told.lines == []


@pytest.mark.parametrize("name", ["forkserve.access", "gunicorn.access"])
def test_names_of_gunicorn(name: str) -> None:
    config: dict[str, Any] = {"version": 1, "loggers": {name: {"level": "INFO"}}}
    targets = configure("f", config)
    assert targets.error is None
    assert targets.access is not None
    assert targets.access.logger.name == name


class Kept(logging.Handler):
    """Keeps records, and can be made to wait or to fail."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.failure: Exception | None = None

    def emit(self, record: logging.LogRecord) -> None:
        self.entered.set()
        self.gate.wait(30)
        try:
            if self.failure is not None:
                raise self.failure
            self.records.append(record)
        except OSError:
            self.handleError(record)


def relay_to(handler: Kept) -> tuple[Relay, AccessRelay, Lines]:
    logging.getLogger("forkserve.access").handlers[:] = [handler]
    targets = configure(
        "f", {"version": 1, "incremental": True, "loggers": {"forkserve.access": {"level": "INFO"}}}
    )
    assert targets.access is not None
    own, told = log_lines()
    relay = Relay(own, lambda: 0.0)
    relay.report_failures_of(targets.access)
    return relay, AccessRelay(relay, targets.access, "json", slot=3, generation=1), told


def test_a_record_has_the_fields_of_the_access_line() -> None:
    handler = Kept()
    handler.gate.set()
    relay, access, _ = relay_to(handler)
    access.write(Access("h", 200, 7, 0.1, "GET /a HTTP/1.1"))
    relay.close()
    (record,) = handler.records
    assert record.access["target"] == "/a"  # type: ignore[attr-defined]
    assert json.loads(record.getMessage())["worker"] == 3


def test_a_handler_that_hangs_holds_up_nobody_and_what_is_lost_is_told() -> None:
    handler = Kept()
    relay, access, told = relay_to(handler)
    access.write(Access("h", 200, 1, 0.1))
    assert handler.entered.wait(30)
    for _ in range(10_003):
        access.write(Access("h", 200, 1, 0.1))
    assert told.lines == [
        "lines of the logs are lost (1 so far): the handlers of `log_config` are too slow. More are told "
        "in a minute"
    ]
    handler.gate.set()
    relay.close()
    assert len(handler.records) == 10_001


@pytest.mark.parametrize("failure", [OSError("no room"), RuntimeError("a bug")])
def test_a_handler_that_fails_is_told(
    failure: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = Kept()
    handler.failure = failure
    handler.gate.set()
    relay, access, told = relay_to(handler)
    access.write(Access("h", 200, 1, 0.1))
    relay.close()
    (line,) = told.lines
    assert line.startswith("lines of the logs were lost (1): a handler of `log_config` has failed")
    assert str(failure) in line
    assert capsys.readouterr().err == ""
