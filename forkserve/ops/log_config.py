"""``log_config``: lines of the workers through the logging module, as a file for dictConfig says.

What the file names is made in a worker, or in a template process, and never in the master: a
handler can be any code. None of it may hold up a request, and a handler may wait for a disk or for
another machine; so a thread does what the handlers do, behind a queue with an end. What finds no
room there, or a handler that fails, is counted and told in the error log's own file.
"""

import json
import logging
import logging.config
import os
import queue
import re
import sys
import threading
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from forkserve.errors import ForkserveError, in_a_line
from forkserve.ops.access import LOGGERS, Access, AccessLog, json_line
from forkserve.ops.logs import LogFile
from forkserve.settings.files import read_regular
from forkserve.settings.kinds import LogTable

_ERROR, _ACCESS = ("forkserve.error", "gunicorn.error"), LOGGERS
_SECTIONS = ("formatters", "filters", "handlers", "loggers")

# What a table of Gunicorn's files may leave out; it may speak of these handlers, too.
_OF_GUNICORN: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "generic": {
            "format": "%(asctime)s [%(process)d] [%(levelname)s] %(message)s",
            "datefmt": "[%Y-%m-%d %H:%M:%S %z]",
        }
    },
    "handlers": {
        name: {
            "class": "logging.StreamHandler",
            "formatter": "generic",
            "stream": f"ext://{stream}",
        }
        for name, stream in (("console", "sys.stdout"), ("error_console", "sys.stderr"))
    },
}

_MOST = 10_000  # lines in the queue: a second or two of what a worker can serve
_TELL_EVERY = 60.0  # seconds between two lines about those that are lost
_LAST_CHANCE = 1.0  # seconds for the queue to be written when the worker ends


def read_log_config(path: str) -> dict[str, Any]:
    """The content of the file, as far as it can be judged without running what it names.

    Raises ForkserveError.
    """
    config = {**_OF_GUNICORN, **path.table} if isinstance(path, LogTable) else _parsed(path)
    if not isinstance(config, dict) or config.get("version") != 1:
        raise _broken(path, "has no `version = 1`, which dictConfig asks for")
    for section in _SECTIONS:
        if not _is_table_of_tables(config.get(section, {})):
            raise _broken(path, f"has a section `{section}` that does not map names to tables")
    if not isinstance(config.get("root", {}), dict):
        raise _broken(path, "has a `root` that is no table")
    known = config.get("handlers", {})
    for name, logger in {**config.get("loggers", {}), "root": config.get("root", {})}.items():
        given = logger.get("handlers", [])
        if not (isinstance(given, list | tuple) and all(isinstance(it, str) for it in given)):
            raise _broken(path, f"gives {name} `handlers` that are no list of names")
        missing = [it for it in given if it not in known]
        if missing:
            raise _broken(path, f"gives {name} a handler {missing[0]!r}, which it does not define")
    return config


def _parsed(path: str) -> Any:
    """Raises ForkserveError."""
    text = None
    try:
        text = read_regular(path).decode()
        as_json = path.endswith(".json") or text.lstrip().startswith("{")
        return json.loads(text) if as_json else tomllib.loads(text)
    except OSError as error:
        raise _broken(path, f"cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # also of a text that is not UTF-8
        why = f"is neither TOML nor JSON: {error}"
        if text is not None and re.search(r"^\[(loggers|handlers)\]$", text, re.MULTILINE):
            why = "is of the INI form of fileConfig: write it as TOML or JSON, for dictConfig"
        raise _broken(path, why) from None


def _is_table_of_tables(section: object) -> bool:
    return isinstance(section, dict) and all(isinstance(item, dict) for item in section.values())


def _broken(path: str, what: str) -> ForkserveError:
    return ForkserveError(f"the file {path} (`log_config`) {what}")


@dataclass(frozen=True, slots=True)
class Target:
    """A logger of the file, as it was when the file was read: what the application makes of logging
    later does not silence its server."""

    logger: logging.Logger
    level: int
    handlers: tuple[logging.Handler, ...]


@dataclass(frozen=True, slots=True)
class Targets:
    """None for a log that the file does not name: its lines go where they go without the file."""

    error: Target | None
    access: Target | None


def configure(path: str, config: Mapping[str, Any]) -> Targets:
    """Do what the file says, in this process. Raises ForkserveError."""
    try:
        logging.config.dictConfig(dict(config))
    except Exception as error:  # noqa: BLE001 - a handler is any code
        cause = error.__cause__
        why = in_a_line(error) + (f" ({in_a_line(cause)})" if cause is not None else "")
        raise _broken(path, f"cannot be used: {why}") from None
    named = config.get("loggers", {})
    return Targets(_target(named, _ERROR), _target(named, _ACCESS))


def _target(named: Mapping[str, Any], names: tuple[str, ...]) -> Target | None:
    name = next((name for name in names if name in named), None)
    if name is None:
        return None
    logger = logging.getLogger(name)
    handlers: list[logging.Handler] = []
    at: logging.Logger | None = logger
    while at is not None:
        handlers += at.handlers
        at = at.parent if at.propagate else None
    return Target(logger, logger.level, tuple(handlers))


class Relay:
    """The queue and its thread. For any thread of the worker that has made it."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float]) -> None:
        """``log``: where to tell what is lost."""
        self._log = log
        self._clock = clock
        self._queue: queue.SimpleQueue[tuple[Target, logging.LogRecord] | None]
        self._queue = queue.SimpleQueue()
        self._lost = 0
        self._tell_again = float("-inf")
        self._reason = ""
        self._handlers: list[logging.Handler] = []
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def give(self, target: Target, record: logging.LogRecord) -> None:
        """Have the handlers of ``target`` write it, soon. Never raises, nor blocks."""
        if self._queue.qsize() >= _MOST:
            self._lost += 1
            self._reason = "the handlers of `log_config` are too slow"
        else:
            self._queue.put((target, record))
        if self._lost and self._clock() >= self._tell_again:
            self._tell_again = self._clock() + _TELL_EVERY
            lost, self._lost = self._lost, 0
            self._log.warning(
                "lines of the logs are lost (%d so far): %s. More are told in a minute",
                lost, self._reason,
            )  # fmt: skip

    def close(self) -> None:
        """Write what is in the queue, if that does not take long."""
        if os.getpid() != self._pid:
            return  # a child of the application has no such thread
        self._queue.put(None)
        self._thread.join(_LAST_CHANCE)
        lost, self._lost = self._lost, 0
        if lost:
            self._log.warning("lines of the logs were lost (%d): %s", lost, self._reason)
        if self._thread.is_alive():
            # The logging module waits for its handlers at the end, and would wait for ever.
            known = logging._handlerList  # type: ignore[attr-defined]
            known[:] = [ref for ref in known if ref() not in self._handlers]

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            target, record = item
            try:
                if record.levelno >= target.level and target.logger.filter(record):
                    for handler in target.handlers:
                        if record.levelno >= handler.level:
                            handler.handle(record)
            except Exception as error:  # noqa: BLE001 - a handler is any code
                self._lost += 1
                self._reason = f"a handler of `log_config` has failed: {in_a_line(error)}"

    def report_failures_of(self, target: Target) -> None:
        """Count what its handlers cannot write, in place of a traceback for each line."""

        def failed(record: logging.LogRecord) -> None:
            error = sys.exc_info()[1]
            self._lost += 1
            why = in_a_line(error) if error is not None else "it does not say why"
            self._reason = f"a handler of `log_config` has failed: {why}"

        self._handlers += target.handlers
        for handler in target.handlers:
            handler.handleError = failed  # type: ignore[method-assign]


class ErrorRelay(logging.Handler):
    """Takes the place of the error log's file."""

    def __init__(self, relay: Relay, target: Target, file: logging.Handler) -> None:
        super().__init__()
        self._relay = relay
        self._target = target
        self._file = file

    def emit(self, record: logging.LogRecord) -> None:
        record.__dict__.setdefault("request_id", "")
        if record.levelno >= logging.CRITICAL:
            self._file.handle(record)  # these are last words, and the thread may not come to them
        self._relay.give(self._target, record)


class AccessRelay(AccessLog):
    """Takes the place of the access log's file."""

    def __init__(
        self, relay: Relay, target: Target, text: str, *, slot: int, generation: int
    ) -> None:
        super().__init__(LogFile("-", 1), text, slot=slot, generation=generation)
        self._relay = relay
        self._target = target

    def write(self, access: Access) -> None:
        """Never raises. The record's ``access`` has the fields of the format json."""
        record = self.record(access, self._target.logger.name)
        record.request_id = access.request_id
        record.access = json.loads(json_line(access))
        self._relay.give(self._target, record)
